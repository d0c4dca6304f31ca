import { useTranslation } from 'react-i18next';

import type { Rule } from '../../api/types';
import { useMay } from '../../app/session';
import { Switch } from '../../design/Switch';
import { useChangeRule } from './use-rule-changes';

export function EnabledSwitch({ rule }: { rule: Rule }) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const change = useChangeRule(rule.id);
  return (
    <Switch
      checked={change.isPending ? (change.variables.enabled ?? rule.enabled) : rule.enabled}
      disabled={!may || change.isPending}
      label={t('rules.enable', { name: rule.name })}
      testId="rule-enabled"
      onChange={(enabled) => change.mutate({ enabled })}
    />
  );
}
