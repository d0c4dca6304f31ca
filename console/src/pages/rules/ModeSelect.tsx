import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import type { ResponseMode, Rule } from '../../api/types';
import { useMay } from '../../app/session';
import { cx } from '../../design/cx';
import { ConfirmDialog } from '../../design/Dialog';
import { Select } from '../../design/Field';
import { MODES, RESPONSE_ACTIONS } from '../words';
import { useChangeRule } from './use-rule-changes';

/** What the rule's actions may do. `auto` acts on hosts without asking anyone, so it asks here. */
export function ModeSelect({ rule, compact }: { rule: Rule; compact?: boolean }) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const change = useChangeRule(rule.id);
  const [asking, setAsking] = useState(false);
  const responses = rule.actions.filter((action) => RESPONSE_ACTIONS.includes(action));

  function choose(mode: ResponseMode) {
    if (mode === 'auto' && responses.length > 0) setAsking(true);
    else change.mutate({ mode });
  }

  return (
    <>
      <Select
        compact={compact}
        data-testid="rule-mode"
        aria-label={t('rules.modeOf', { name: rule.name })}
        disabled={!may || change.isPending}
        value={change.isPending ? (change.variables.mode ?? rule.mode) : rule.mode}
        onChange={(value) => choose(value as ResponseMode)}
        options={MODES.map((value) => ({ value, label: t(`mode.${value}`) }))}
        className={cx(compact ? 'w-auto' : 'w-36', rule.mode === 'auto' && 'font-medium text-bad!')}
      />
      <ConfirmDialog
        open={asking}
        onClose={() => setAsking(false)}
        onConfirm={() => change.mutate({ mode: 'auto' }, { onSettled: () => setAsking(false) })}
        busy={change.isPending}
        title={t('rules.autoTitle')}
        confirmLabel={t('rules.autoConfirm')}
      >
        {t('rules.autoText', { name: rule.name, actions: responses.map((action) => t(`action.${action}`)).join(', ') })}
      </ConfirmDialog>
    </>
  );
}
