/** Where to go after signing in. Only a path of this console: anything else could lead to a stranger's page. */
export function nextAddress(next: string | undefined): string {
  return next && /^\/(?![/\\])/.test(next) ? next : '/';
}
