import { CircleAlert, CircleCheck, TriangleAlert } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import type { Diagnostic, RuleCheck } from '../../api/types';
import { cx } from '../../design/cx';
import { Skeleton } from '../../design/States';

interface DiagnosticsProps {
  checked: RuleCheck | undefined;
  diagnostics: Diagnostic[];
  onGoTo: (diagnostic: Diagnostic) => void;
}

/** What the engine says, place by place; a click goes there. */
export function Diagnostics({ checked, diagnostics, onGoTo }: DiagnosticsProps) {
  const { t } = useTranslation();
  if (!checked && diagnostics.length === 0) return <Skeleton className="h-5 w-full" />;
  const fine = diagnostics.every((one) => one.severity !== 'error');
  return (
    <div aria-live="polite" className="flex flex-col gap-2">
      {fine && checked?.rule && (
        <p className="flex items-start gap-2 text-good">
          <CircleCheck aria-hidden="true" className="mt-0.5 size-4 shrink-0" />
          <span className="[overflow-wrap:anywhere]">
            {t('rules.valid', { name: checked.rule.name || checked.rule.id })}
            <span className="block text-xs text-muted">
              {t(`ruleType.${checked.rule.type}`)} · {t(`severity.${checked.rule.severity}`)} · {t(`mode.${checked.rule.mode}`)} ·{' '}
              {checked.rule.actions.map((action) => t(`action.${action}`)).join(', ')}
            </span>
          </span>
        </p>
      )}
      <DiagnosticList diagnostics={diagnostics} onGoTo={onGoTo} />
    </div>
  );
}

/** Each place with what is wrong there. */
export function DiagnosticList({ diagnostics, onGoTo }: Omit<DiagnosticsProps, 'checked'>) {
  const { t } = useTranslation();
  return (
    <ul className="flex max-h-72 flex-col gap-1.5 overflow-auto">
      {diagnostics.map((one, index) => (
        <li key={index}>
          <button
            type="button"
            data-testid="rule-diagnostic"
            onClick={() => onGoTo(one)}
            className="flex w-full items-start gap-2 rounded-md border px-2.5 py-1.5 text-left hover:bg-sunken"
          >
            {one.severity === 'error' ? (
              <CircleAlert aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-bad" />
            ) : (
              <TriangleAlert aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-warn" />
            )}
            <span className="min-w-0 [overflow-wrap:anywhere]">
              <span className="font-mono text-xs text-muted">
                {one.line}:{one.column}
              </span>{' '}
              <span className={cx('font-medium', one.severity === 'error' ? 'text-bad' : 'text-warn')}>
                {t(`rules.level.${one.severity}`)}
              </span>{' '}
              {one.reason}
              {one.hint && <span className="block text-xs text-muted">{one.hint}</span>}
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}
