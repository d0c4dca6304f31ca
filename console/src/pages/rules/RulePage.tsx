import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, getRouteApi, useNavigate } from '@tanstack/react-router';
import { ChevronRight, Trash2 } from 'lucide-react';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Rule } from '../../api/types';
import { useMay } from '../../app/session';
import { Badge } from '../../design/Badge';
import { Button } from '../../design/Button';
import { ConfirmDialog } from '../../design/Dialog';
import { Page } from '../../design/Page';
import { SeverityBadge } from '../../design/Severity';
import { Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { useToast } from '../../design/Toast';
import { EnabledSwitch } from './EnabledSwitch';
import { Exceptions } from './Exceptions';
import { HostsWithoutSource } from './HostsWithoutSource';
import { ModeSelect } from './ModeSelect';
import { RuleWorkbench } from './RuleWorkbench';
import { templateText } from './templates';

const ruleRoute = getRouteApi('/shell/rules/$ruleId');
const newRoute = getRouteApi('/shell/rules/new');

export function RulePage() {
  const { ruleId } = ruleRoute.useParams();
  const rule = useQuery({ queryKey: ['rules', ruleId], queryFn: () => api.rule(ruleId) });
  return <Fetched query={rule}>{(data) => <OneRule key={data.id} rule={data} />}</Fetched>;
}

function OneRule({ rule }: { rule: Rule }) {
  const { t } = useTranslation();
  const client = useQueryClient();
  const navigate = useNavigate();
  const toast = useToast();
  const save = useMutation({
    mutationFn: (text: string) => api.saveRule(rule.id, text),
    onSuccess: async (saved) => {
      toast.done(t('rules.saved', { name: saved.name }));
      client.setQueryData(['rules', saved.id], saved);
      await client.invalidateQueries({ queryKey: ['rules'] });
      if (saved.id !== rule.id) await navigate({ to: '/rules/$ruleId', params: { ruleId: saved.id } });
    },
  });
  return (
    <Page
      fill
      title={
        <span className="flex flex-wrap items-center gap-x-2.5">
          <RulesLink />
          {rule.name}
          <SeverityBadge severity={rule.severity} />
          {rule.origin === 'starter' && <Badge>{t('rules.starter')}</Badge>}
        </span>
      }
      summary={
        <>
          {rule.description} · {t('rules.changedBy', { who: rule.updated_by })} <Time value={rule.updated_at} form="relative" />
        </>
      }
      actions={
        <>
          <span className="flex items-center gap-2 text-muted">
            {t('rules.enabled')} <EnabledSwitch rule={rule} />
          </span>
          <ModeSelect rule={rule} />
          <Exceptions rule={rule} />
          <DeleteRule rule={rule} />
        </>
      }
    >
      <HostsWithoutSource ruleId={rule.id} />
      <RuleWorkbench initialText={rule.text} save={save} />
    </Page>
  );
}

export function NewRulePage() {
  const { t } = useTranslation();
  const { template } = newRoute.useSearch();
  const client = useQueryClient();
  const navigate = useNavigate();
  const toast = useToast();
  const create = useMutation({
    mutationFn: (text: string) => api.importRules(text),
    onSuccess: async ({ items }) => {
      const [first, ...others] = items;
      if (!first) return;
      toast.done(others.length ? t('rules.imported', { count: items.length }) : t('rules.created', { name: first.name }));
      await client.invalidateQueries({ queryKey: ['rules'] });
      if (others.length) await navigate({ to: '/rules', search: {}, ignoreBlocker: true });
      else await navigate({ to: '/rules/$ruleId', params: { ruleId: first.id }, ignoreBlocker: true });
    },
  });
  return (
    <Page
      fill
      title={
        <span className="flex items-center gap-2.5">
          <RulesLink />
          {t('rules.new')}
        </span>
      }
      summary={t('rules.newHint')}
    >
      <RuleWorkbench key={template} initialText={templateText(template)} save={create} isNew />
    </Page>
  );
}

function RulesLink() {
  const { t } = useTranslation();
  return (
    <span className="flex items-center gap-1 font-normal text-muted">
      <Link to="/rules" search={{}} className="hover:underline">
        {t('nav.rules')}
      </Link>
      <ChevronRight aria-hidden="true" className="size-4" />
    </span>
  );
}

function DeleteRule({ rule }: { rule: Rule }) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const client = useQueryClient();
  const navigate = useNavigate();
  const toast = useToast();
  const [asking, setAsking] = useState(false);
  const remove = useMutation({
    mutationFn: () => api.deleteRule(rule.id),
    onSuccess: async () => {
      toast.done(t('rules.deleted', { name: rule.name }));
      await navigate({ to: '/rules', search: {}, ignoreBlocker: true });
      client.removeQueries({ queryKey: ['rules', rule.id] });
      await client.invalidateQueries({ queryKey: ['rules'] });
    },
    onError: toast.failed,
  });
  if (!may) return null;
  return (
    <>
      <Button variant="danger" icon={<Trash2 />} data-testid="rule-delete" onClick={() => setAsking(true)}>
        {t('common.delete')}
      </Button>
      <ConfirmDialog
        open={asking}
        onClose={() => setAsking(false)}
        onConfirm={() => remove.mutate()}
        busy={remove.isPending}
        title={t('rules.deleteTitle', { name: rule.name })}
        confirmLabel={t('common.delete')}
      >
        {t('rules.deleteText')}
      </ConfirmDialog>
    </>
  );
}
