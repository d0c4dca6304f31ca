import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Behaviour } from '../../api/types';
import { useMay } from '../../app/session';
import { Badge } from '../../design/Badge';
import { Card } from '../../design/Card';
import { Input } from '../../design/Field';
import { Fetched } from '../../design/States';
import { Switch } from '../../design/Switch';
import { SimpleTable } from '../settings/SimpleTable';
import { useChange } from '../settings/use-change';

/** What counts for the score of a process tree, and how much. */
export function Behaviours() {
  const { t } = useTranslation();
  const behaviours = useQuery({ queryKey: ['behaviours'], queryFn: api.behaviours });
  return (
    <Card flush title={t('content.inForce')}>
      <Fetched query={behaviours} rows={6}>
        {({ items }) => (
          <SimpleTable
            label={t('content.inForce')}
            head={[t('rules.enabled'), t('content.name'), t('content.weight'), t('content.shownBy'), 'ATT&CK', t('content.file')]}
            rows={items.map((behaviour) => ({
              key: behaviour.id,
              faded: !behaviour.enabled,
              cells: [
                <OnOff key="enabled" behaviour={behaviour} />,
                <span key="name">
                  {behaviour.name}
                  <span className="block font-mono text-xs text-faint">{behaviour.id}</span>
                </span>,
                <Weight key="weight" behaviour={behaviour} />,
                t(`content.shown.${shownBy(behaviour)}`),
                <span key="attack" className="flex flex-wrap gap-1">
                  {behaviour.attack.map((technique) => (
                    <Badge key={technique}>{technique}</Badge>
                  ))}
                </span>,
                <span key="file" className="text-muted">
                  {behaviour.file}
                </span>,
              ],
            }))}
          />
        )}
      </Fetched>
    </Card>
  );
}

/** A later server may know more ways. */
function shownBy(behaviour: Behaviour): 'conditions' | 'rule' | 'sequence' {
  return behaviour.shown_by === 'rule' || behaviour.shown_by === 'sequence' ? behaviour.shown_by : 'conditions';
}

function useBehaviourChange(behaviour: Behaviour) {
  return useChange('behaviours', (change: { enabled?: boolean; weight?: number }) =>
    api.changeBehaviour(behaviour.id, { enabled: behaviour.enabled, weight: behaviour.weight, ...change }),
  );
}

function OnOff({ behaviour }: { behaviour: Behaviour }) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const change = useBehaviourChange(behaviour);
  return (
    <Switch
      checked={behaviour.enabled}
      disabled={!may || change.isPending}
      label={t('rules.enable', { name: behaviour.name })}
      testId={`behaviour-${behaviour.id}`}
      onChange={(enabled) => change.mutate({ enabled })}
    />
  );
}

const HEAVIEST = 1000;

function Weight({ behaviour }: { behaviour: Behaviour }) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const change = useBehaviourChange(behaviour);
  const [text, setText] = useState(String(behaviour.weight));
  useEffect(() => setText(String(behaviour.weight)), [behaviour.weight]);
  if (!may) return <>{behaviour.weight}</>;
  function submit(event?: FormEvent) {
    event?.preventDefault();
    const weight = Number(text);
    if (text.trim() === '' || Number.isNaN(weight) || weight < 0 || weight > HEAVIEST) setText(String(behaviour.weight));
    else if (weight !== behaviour.weight) change.mutate({ weight });
  }
  return (
    <form onSubmit={submit}>
      <Input
        className="w-20"
        type="number"
        min={0}
        max={HEAVIEST}
        step="any"
        aria-label={t('content.weightOf', { name: behaviour.name })}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onBlur={() => submit()}
      />
    </form>
  );
}
