/** Whether the server takes a rule's text for native JSON; otherwise it is Sigma, in YAML. */
export function isJsonText(text: string): boolean {
  return /^\s*[[{]/.test(text.replace(/^\ufeff/, ''));
}
