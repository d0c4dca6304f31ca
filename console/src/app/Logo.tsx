/** A shield whose top is a wall. */
export function Logo({ className }: { className?: string }) {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true" className={className}>
      <rect width="32" height="32" rx="7" fill="#1d4ed8" />
      <path d="M7 8h4v3h3V8h4v3h3V8h4v9c0 4.5-4 7-9 9-5-2-9-4.5-9-9z" fill="#ffffff" />
    </svg>
  );
}
