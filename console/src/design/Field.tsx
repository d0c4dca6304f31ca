import { Search, X } from 'lucide-react';
import {
  type ComponentProps,
  type ReactNode,
  cloneElement,
  isValidElement,
  useEffect,
  useId,
  useState,
} from 'react';
import { useTranslation } from 'react-i18next';

import { cx } from './cx';

const CONTROL =
  'min-w-0 rounded-md border border-line-strong bg-surface text-ink placeholder:text-faint hover:border-faint focus-visible:border-accent focus-visible:outline-1 focus-visible:outline-offset-0 disabled:opacity-60 aria-invalid:border-bad';
const NORMAL = 'h-8 px-2.5 text-sm';
const COMPACT = 'h-7 px-1.5 text-xs';

interface FieldProps {
  label: ReactNode;
  hint?: ReactNode;
  error?: ReactNode;
  /** One form control; gets its id and descriptions from the field. */
  children: React.ReactElement<{ id?: string; 'aria-describedby'?: string; 'aria-invalid'?: boolean }>;
}

export function Field({ label, hint, error, children }: FieldProps) {
  const id = useId();
  const noteId = `${id}-note`;
  const note = error ?? hint;
  const control = isValidElement(children)
    ? cloneElement(children, {
        id,
        ...(note ? { 'aria-describedby': noteId } : {}),
        ...(error ? { 'aria-invalid': true } : {}),
      })
    : children;
  return (
    <div className="flex flex-col gap-1">
      <label htmlFor={id} className="text-xs font-medium text-muted">
        {label}
      </label>
      {control}
      {note && (
        <p id={noteId} role={error ? 'alert' : undefined} className={cx('text-xs', error ? 'text-bad' : 'text-faint')}>
          {note}
        </p>
      )}
    </div>
  );
}

/** As wide as its place, unless `className` says how wide. */
export function Input({ className = 'w-full', ...rest }: ComponentProps<'input'>) {
  return <input {...rest} className={cx(CONTROL, NORMAL, className)} />;
}

export function Textarea({ className, ...rest }: ComponentProps<'textarea'>) {
  return <textarea {...rest} className={cx(CONTROL, 'min-h-20 w-full px-2.5 py-1.5 text-sm', className)} />;
}

interface SelectProps extends Omit<ComponentProps<'select'>, 'onChange'> {
  options: { value: string; label: string }[];
  onChange: (value: string) => void;
  /** Small, for use inside tables and tool bars. */
  compact?: boolean;
}

export function Select({ options, onChange, compact, className = compact ? 'w-auto' : 'w-full', ...rest }: SelectProps) {
  return (
    <select
      {...rest}
      onChange={(event) => onChange(event.target.value)}
      className={cx(CONTROL, compact ? COMPACT : NORMAL, className)}
    >
      {options.map((option) => (
        <option key={option.value} value={option.value}>
          {option.label}
        </option>
      ))}
    </select>
  );
}

interface SearchInputProps {
  value: string;
  /** What it returns, if anything, stands in the field from then on. */
  onSubmit: (value: string) => string | void;
  placeholder: string;
  /** Only submit on Enter; else also while typing, a moment after the last key. */
  onEnterOnly?: boolean;
  className?: string;
  testId?: string;
}

/** The page's search field; `/` focuses it. */
export function SearchInput({ value, onSubmit, placeholder, onEnterOnly, className, testId }: SearchInputProps) {
  const { t } = useTranslation();
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (onEnterOnly || text === value) return;
    const timer = setTimeout(() => onSubmit(text), 300);
    return () => clearTimeout(timer);
  }, [text, value, onEnterOnly, onSubmit]);
  return (
    <form
      role="search"
      className={cx('relative min-w-0', className)}
      onSubmit={(event) => {
        event.preventDefault();
        const rest = onSubmit(text);
        if (rest !== undefined) setText(rest);
      }}
    >
      <Search aria-hidden="true" className="pointer-events-none absolute top-2 left-2.5 size-4 text-faint" />
      <input
        type="search"
        data-search
        data-testid={testId}
        aria-label={placeholder}
        placeholder={placeholder}
        value={text}
        autoComplete="off"
        spellCheck={false}
        onChange={(event) => setText(event.target.value)}
        className={cx(CONTROL, 'h-8 w-full pr-8 pl-8 text-sm [&::-webkit-search-cancel-button]:hidden')}
      />
      {text && (
        <button
          type="button"
          aria-label={t('common.clear')}
          className="absolute top-1.5 right-1.5 rounded p-0.5 text-faint hover:text-ink"
          onClick={() => {
            setText('');
            onSubmit('');
          }}
        >
          <X className="size-4" />
        </button>
      )}
    </form>
  );
}
