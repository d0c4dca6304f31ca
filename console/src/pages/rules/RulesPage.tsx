import { useQuery } from '@tanstack/react-query';
import { Link, getRouteApi, useNavigate } from '@tanstack/react-router';
import { createColumnHelper } from '@tanstack/react-table';
import { Plus, Scale } from 'lucide-react';
import { useMemo } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Rule } from '../../api/types';
import { useMay } from '../../app/session';
import { Badge } from '../../design/Badge';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { DataTable } from '../../design/DataTable';
import { SearchInput, Select } from '../../design/Field';
import { Menu } from '../../design/Menu';
import { Page } from '../../design/Page';
import { SeverityBadge } from '../../design/Severity';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { formatNumber } from '../../i18n/format';
import { RULE_TYPES, SEVERITIES } from '../words';
import { EnabledSwitch } from './EnabledSwitch';
import { ModeSelect } from './ModeSelect';
import { TEMPLATES } from './templates';

const route = getRouteApi('/shell/rules');
const column = createColumnHelper<Rule>();

export function RulesPage() {
  const { t, i18n } = useTranslation();
  const search = route.useSearch();
  const navigate = useNavigate();
  const mayEdit = useMay('edit_rules');
  const rules = useQuery({ queryKey: ['rules'], queryFn: api.rules });

  const columns = useMemo(
    () => [
      column.accessor('enabled', {
        header: t('rules.enabled'),
        meta: { width: 80 },
        cell: ({ row }) => <EnabledSwitch rule={row.original} />,
      }),
      column.accessor('name', {
        header: t('rules.name'),
        cell: ({ row }) => (
          <Link to="/rules/$ruleId" params={{ ruleId: row.original.id }} className="font-medium hover:underline" title={row.original.description}>
            {row.original.name}
          </Link>
        ),
      }),
      column.accessor((rule) => SEVERITIES.indexOf(rule.severity), {
        id: 'severity',
        header: t('rules.severity'),
        meta: { width: 132, from: 'medium' },
        cell: ({ row }) => <SeverityBadge severity={row.original.severity} />,
      }),
      column.accessor('type', {
        header: t('rules.type'),
        meta: { width: 110, from: 'wide' },
        cell: ({ row }) => t(`ruleType.${row.original.type}`),
      }),
      column.accessor('mode', {
        header: t('rules.mode'),
        meta: { width: 130 },
        cell: ({ row }) => <ModeSelect rule={row.original} compact />,
      }),
      column.accessor((rule) => rule.attack.join(' '), {
        id: 'attack',
        header: 'ATT&CK',
        meta: { width: 170, from: 'very-wide' },
        cell: ({ row }) => (
          <span className="flex gap-1 overflow-hidden">
            {row.original.attack.map((technique) => (
              <Badge key={technique}>{technique}</Badge>
            ))}
          </span>
        ),
      }),
      column.accessor('alerts_24h', {
        header: t('rules.alerts24h'),
        meta: { width: 100, align: 'right', from: 'medium' },
        sortDescFirst: true,
        cell: ({ row: { original: rule } }) =>
          rule.alerts_24h > 0 ? (
            <Link to="/alerts" search={{ rule: rule.id }} className="text-accent hover:underline">
              {formatNumber(rule.alerts_24h, i18n.language)}
            </Link>
          ) : (
            <span className="text-faint">0</span>
          ),
      }),
      column.accessor('updated_at', {
        header: t('rules.updated'),
        meta: { width: 200, from: 'wide' },
        cell: ({ row: { original: rule } }) => (
          <span className="text-muted">
            <Time value={rule.updated_at} form="relative" />
            {rule.origin === 'starter' ? ` · ${t('rules.starter')}` : ` · ${rule.updated_by}`}
          </span>
        ),
      }),
    ],
    [t, i18n.language],
  );

  function matches(rule: Rule): boolean {
    const words = search.q?.toLowerCase();
    const haystack = `${rule.id} ${rule.name} ${rule.description} ${rule.attack.join(' ')}`.toLowerCase();
    return (
      (!words || haystack.includes(words)) &&
      (!search.type || rule.type === search.type) &&
      (!search.severity || rule.severity === search.severity)
    );
  }
  const change = (part: Partial<typeof search>) => void navigate({ to: '/rules', search: { ...search, ...part }, replace: true });

  return (
    <Page
      title={t('nav.rules')}
      fill
      actions={
        mayEdit && (
          <Menu
            trigger={
              <Button variant="primary" icon={<Plus />} data-testid="rule-new">
                {t('rules.new')}
              </Button>
            }
            items={TEMPLATES.map((template) => ({
              label: t(`rules.template.${template.id}`),
              testId: `rule-template-${template.id}`,
              onSelect: () => void navigate({ to: '/rules/new', search: { template: template.id } }),
            }))}
          />
        )
      }
    >
      <div className="flex flex-wrap gap-2">
        <SearchInput className="w-80 max-w-full flex-1 md:flex-none" placeholder={t('rules.search')} value={search.q ?? ''} onSubmit={(q) => change({ q })} />
        <Select
          aria-label={t('rules.type')}
          className="w-36"
          value={search.type ?? ''}
          onChange={(type) => change({ type })}
          options={[{ value: '', label: t('rules.anyType') }, ...RULE_TYPES.map((value) => ({ value, label: t(`ruleType.${value}`) }))]}
        />
        <Select
          aria-label={t('rules.severity')}
          className="w-36"
          value={search.severity ?? ''}
          onChange={(severity) => change({ severity })}
          options={[{ value: '', label: t('alerts.anySeverity') }, ...SEVERITIES.map((value) => ({ value, label: t(`severity.${value}`) }))]}
        />
      </div>
      <Card flush className="flex min-h-0 flex-1 flex-col overflow-hidden [&>div]:flex [&>div]:min-h-0 [&>div]:flex-1 [&>div]:flex-col">
        <Fetched query={rules}>
          {({ items }) => {
            const shown = items.filter(matches);
            if (shown.length === 0) {
              return <EmptyState icon={<Scale aria-hidden="true" />} title={items.length ? t('common.nothingMatches') : t('rules.none')} />;
            }
            return (
              <DataTable
                height="fill"
                label={t('nav.rules')}
                columns={columns}
                rows={shown}
                rowId={(rule) => rule.id}
                rowTestId="rule-row"
                sortable
                rowClass={(rule) => (rule.enabled ? undefined : 'opacity-60')}
                onOpen={(rule) => void navigate({ to: '/rules/$ruleId', params: { ruleId: rule.id } })}
              />
            );
          }}
        </Fetched>
      </Card>
    </Page>
  );
}
