import { useQuery } from '@tanstack/react-query';
import { Undo2 } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { PlaybookRun, PlaybookRunStep } from '../../api/types';
import { useMay } from '../../app/session';
import { Badge, type Tone } from '../../design/Badge';
import { Button } from '../../design/Button';
import { Facts } from '../../design/Card';
import { Dialog } from '../../design/Dialog';
import { RawText } from '../../design/RawText';
import { Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { useChange } from '../settings/use-change';
import { LOOK_EVERY_MS, RunStateBadge } from './words';

/** One run: its steps, what the agents planned and proved, and how it compares to its dry run. */
export function RunDrawer({ id, onClose }: { id: string; onClose: () => void }) {
  const { t } = useTranslation();
  const run = useQuery({
    queryKey: ['playbook-runs', 'one', id],
    queryFn: () => api.playbookRun(id),
    refetchInterval: LOOK_EVERY_MS,
  });
  return (
    <Dialog open onClose={onClose} kind="drawer" title={t('runs.one')} testId="run-drawer">
      <Fetched query={run}>{(found) => <Detail run={found} />}</Fetched>
    </Dialog>
  );
}

function Detail({ run }: { run: PlaybookRun }) {
  const { t } = useTranslation();
  const may = useMay('respond');
  const undo = useChange('playbook-runs', () => api.undoPlaybookRun(run.id));
  return (
    <div className="flex flex-col gap-5">
      <Facts
        items={[
          [t('runs.playbook'), <span key="playbook"><RawText text={run.name} /> <RawText text={run.playbook} className="font-mono text-xs text-muted" /></span>],
          [t('responses.state'), <span key="state"><RunStateBadge run={run} /> <Time value={run.state_at} form="short" /></span>],
          [t('runs.kind'), run.dry_run ? t('runs.dry') : <RawText key="mode" text={run.mode} />],
          [t('runs.begun'), <span key="by"><RawText text={run.requested_by || t('runs.byAlert')} /> · <Time value={run.requested_at} form="short" /></span>],
          [t('runs.responder'), <RawText key="responder" text={run.responder || t('runs.noResponder')} className="font-mono text-xs" />],
          [t('runs.outcome'), <RawText key="detail" text={run.detail} />],
        ]}
      />
      {run.compared && (
        <p
          data-testid="run-comparison"
          className={run.compared.same ? 'rounded-md bg-good-soft p-3 text-good' : 'rounded-md bg-warn-soft p-3 text-warn'}
        >
          {run.compared.same ? t('runs.asPlanned') : t('runs.notAsPlanned', { steps: run.compared.differing_steps.join(', ') })}
        </p>
      )}
      {may && run.can_undo && (
        <Button className="self-start" icon={<Undo2 />} busy={undo.isPending} onClick={() => undo.mutate(undefined)}>
          {t('runs.undo')}
        </Button>
      )}
      <ol className="flex flex-col gap-4">
        {run.steps.map((step) => (
          <Step key={step.id} step={step} />
        ))}
      </ol>
    </div>
  );
}

const FAILURES = ['failed', 'timed_out', 'denied', 'lost'];

function tone(step: PlaybookRunStep): Tone {
  if (step.outcome === null) return step.begun ? 'accent' : 'neutral';
  if (step.outcome === 'succeeded') return 'good';
  return FAILURES.includes(step.outcome) ? 'bad' : 'neutral';
}

function Step({ step }: { step: PlaybookRunStep }) {
  const { t } = useTranslation();
  const word = (step.outcome ?? (step.begun ? 'begun' : 'waiting')) as 'begun';
  return (
    <li data-testid="run-step">
      <p className="flex flex-wrap items-center gap-2">
        <RawText text={step.id} className="font-medium" />
        <RawText text={step.action} className="font-mono text-xs text-muted" />
        <Badge tone={tone(step)} testId="step-outcome" state={word}>
          {t(`runs.step.${word}`)}
        </Badge>
        {step.undone !== null && (
          <Badge tone={step.undone ? 'neutral' : 'bad'}>{step.undone ? t('runs.undone') : t('runs.notUndone')}</Badge>
        )}
      </p>
      <p className="text-muted [overflow-wrap:anywhere]">
        <RawText text={step.does} />
      </p>
      {step.plan.length > 0 && (
        <ol className="mt-1 list-decimal rounded bg-sunken py-1 pr-2 pl-7">
          {step.plan.map((line, index) => (
            <li key={index} className="[overflow-wrap:anywhere]">
              <RawText text={line} />
            </li>
          ))}
        </ol>
      )}
      {step.detail && (
        <p className="mt-1 text-xs text-faint [overflow-wrap:anywhere]">
          <RawText text={step.detail} />
        </p>
      )}
    </li>
  );
}
