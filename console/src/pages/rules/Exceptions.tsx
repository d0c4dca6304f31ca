import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Eye, Plus } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { ApiError, describeError } from '../../api/problem';
import type { ExceptionPreview, Rule } from '../../api/types';
import { useMay } from '../../app/session';
import { Button } from '../../design/Button';
import { Dialog } from '../../design/Dialog';
import { Field, Input } from '../../design/Field';
import { Time } from '../../design/Time';
import { useToast } from '../../design/Toast';
import { formatNumber } from '../../i18n/format';
import { type ExceptionForm, exceptionOf, exceptionsIn, withException } from './exception';

const EMPTY: ExceptionForm = { condition: '', hosts: '', reason: '', expires: '' };

/** The rule's exceptions, and a new one with a look at what it would have hidden. */
export function Exceptions({ rule }: { rule: Rule }) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const [open, setOpen] = useState(false);
  if (!may) return null;
  const count = exceptionsIn(rule.text).length;
  return (
    <>
      <Button icon={<Plus />} data-testid="exception-new" onClick={() => setOpen(true)}>
        {count ? t('exceptions.some', { count }) : t('exceptions.new')}
      </Button>
      {open && <NewException rule={rule} onClose={() => setOpen(false)} />}
    </>
  );
}

function NewException({ rule, onClose }: { rule: Rule; onClose: () => void }) {
  const { t } = useTranslation();
  const client = useQueryClient();
  const toast = useToast();
  const [form, setForm] = useState(EMPTY);
  const preview = useMutation({ mutationFn: (wanted: ExceptionForm) => api.previewException(rule.id, JSON.stringify(exceptionOf(wanted))) });
  const text = withException(rule.text, exceptionOf(form));
  const add = useMutation({
    mutationFn: (wanted: string) => api.saveRule(rule.id, wanted),
    onSuccess: async (saved) => {
      toast.done(t('exceptions.added', { name: saved.name }));
      client.setQueryData(['rules', saved.id], saved);
      await client.invalidateQueries({ queryKey: ['rules'] });
      onClose();
    },
  });
  const isPreviewed = preview.data !== undefined && preview.variables === form;
  const change = (part: Partial<ExceptionForm>) => setForm({ ...form, ...part });
  const failure = add.error ?? (preview.variables === form ? preview.error : null);

  function submit(event: FormEvent) {
    event.preventDefault();
    preview.mutate(form);
  }

  return (
    <Dialog open onClose={onClose} title={t('exceptions.title', { name: rule.name })}>
      <form onSubmit={submit} className="flex flex-col gap-3">
        <ExistingExceptions text={rule.text} />
        <Field label={t('exceptions.condition')} hint={t('exceptions.conditionHint')}>
          <Input
            className="w-full font-mono"
            required={form.hosts.trim() === ''}
            data-testid="exception-condition"
            placeholder="user = 'backup'"
            value={form.condition}
            onChange={(event) => change({ condition: event.target.value })}
          />
        </Field>
        <Field label={t('exceptions.hosts')} hint={t('exceptions.hostsHint')}>
          <Input placeholder="build-*" value={form.hosts} onChange={(event) => change({ hosts: event.target.value })} />
        </Field>
        <Field label={t('exceptions.reason')}>
          <Input required data-testid="exception-reason" value={form.reason} onChange={(event) => change({ reason: event.target.value })} />
        </Field>
        <Field label={t('exceptions.expires')} hint={t('exceptions.expiresHint')}>
          <Input className="w-44" type="date" value={form.expires} onChange={(event) => change({ expires: event.target.value })} />
        </Field>
        {failure && <Refusal error={failure} />}
        {isPreviewed && <Hidden preview={preview.data} />}
        {text === undefined && <p className="text-warn">{t('exceptions.onlyJson')}</p>}
        <div className="flex justify-end gap-2">
          <Button type="submit" icon={<Eye />} busy={preview.isPending} data-testid="exception-preview">
            {t('exceptions.preview')}
          </Button>
          <Button
            variant="primary"
            data-testid="exception-add"
            busy={add.isPending}
            disabled={!isPreviewed || text === undefined}
            title={isPreviewed ? undefined : t('exceptions.previewFirst')}
            onClick={() => text !== undefined && add.mutate(text)}
          >
            {t('exceptions.add')}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function ExistingExceptions({ text }: { text: string }) {
  const { t } = useTranslation();
  const known = exceptionsIn(text);
  if (known.length === 0) return null;
  return (
    <ul className="text-xs text-muted" aria-label={t('exceptions.known')}>
      {known.map((one, index) => (
        <li key={index}>
          {one.reason}
          {one.expires && <> · {t('exceptions.until', { when: one.expires })}</>}
        </li>
      ))}
    </ul>
  );
}

function Refusal({ error }: { error: Error }) {
  const reasons = error instanceof ApiError ? error.diagnostics : [];
  return (
    <div role="alert" className="text-bad">
      {reasons.length === 0 && <p>{describeError(error)}</p>}
      {reasons.map((one, index) => (
        <p key={index}>
          {one.reason}
          {one.hint && <span className="block text-xs text-muted">{one.hint}</span>}
        </p>
      ))}
    </div>
  );
}

/** What the exception would have hidden of the alerts so far. */
function Hidden({ preview }: { preview: ExceptionPreview }) {
  const { t, i18n } = useTranslation();
  const number = (value: number) => formatNumber(value, i18n.language);
  return (
    <div data-testid="exception-hidden" aria-live="polite" className="rounded-md border bg-sunken p-3">
      <p className="font-medium">
        {t('exceptions.hidden', {
          hidden: number(preview.hidden),
          examined: number(preview.examined),
          detections: number(preview.hidden_detections),
        })}
      </p>
      <p className="text-xs text-muted">
        {t('exceptions.since')} <Time value={preview.since} form="short" />
        {preview.incomplete && <> · {t('exceptions.incomplete')}</>}
        {preview.unreadable > 0 && <> · {t('exceptions.unreadable', { count: preview.unreadable })}</>}
      </p>
      {preview.examined > 0 && preview.hidden === preview.examined && <p className="mt-1 text-warn">{t('exceptions.hidesAll')}</p>}
      <ul className="mt-2 flex max-h-40 flex-col gap-1 overflow-auto text-xs">
        {preview.sample.map((alert) => (
          <li key={alert.id}>
            <Link to="/alerts/$alertId" params={{ alertId: alert.id }} className="hover:underline" target="_blank">
              <Time value={alert.last_time} form="short" /> · {alert.host_name} · {alert.rule.name}
            </Link>
          </li>
        ))}
      </ul>
    </div>
  );
}
