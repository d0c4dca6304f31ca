import { useQuery } from '@tanstack/react-query';
import { X } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { Input, SearchInput, Select } from '../../design/Field';
import { RawText } from '../../design/RawText';
import { EVENT_TYPES } from './EventTypeBadge';
import { type EventSearch, parseQuery, splitField } from './query';
import { RANGES, rangeName, spanOf, toLocalInput } from './time-range';

interface FilterBarProps {
  search: EventSearch;
  onChange: (part: Partial<EventSearch>) => void;
  live: boolean;
}

export function FilterBar({ search, onChange, live }: FilterBarProps) {
  const { t } = useTranslation();
  const hosts = useQuery({ queryKey: ['hosts'], queryFn: api.hosts });
  const named = rangeName(search);

  function submit(text: string) {
    const { words, fields } = parseQuery(text);
    onChange({ q: words, field: [...new Set([...(search.field ?? []), ...fields])] });
    return words;
  }

  function chooseRange(range: string) {
    if (range !== 'custom') return onChange({ range, from: undefined, to: undefined });
    const span = spanOf(search, Date.now());
    onChange({ range: undefined, from: span.from, to: span.to ?? new Date().toISOString() });
  }

  return (
    <div className="flex flex-col gap-2">
      <div className="flex flex-wrap gap-2">
        <SearchInput
          onEnterOnly
          className="min-w-64 flex-1"
          testId="events-query"
          placeholder={t('events.search')}
          value={search.q ?? ''}
          onSubmit={submit}
        />
        <Select
          aria-label={t('events.host')}
          className="w-40"
          value={search.host ?? ''}
          onChange={(host) => onChange({ host })}
          options={[
            { value: '', label: t('alerts.anyHost') },
            ...(hosts.data?.items ?? []).map((host) => ({ value: host.id, label: host.name })),
          ]}
        />
        <Select
          aria-label={t('events.type')}
          className="w-40"
          value={search.type ?? ''}
          onChange={(type) => onChange({ type })}
          options={[
            { value: '', label: t('events.anyType') },
            ...EVENT_TYPES.map((value) => ({ value, label: t(`eventType.${value}`) })),
          ]}
        />
        {!live && (
          <Select
            aria-label={t('events.range')}
            className="w-40"
            value={named ?? 'custom'}
            onChange={chooseRange}
            options={[
              ...RANGES.map((value) => ({ value: value as string, label: t(`range.${value}`) })),
              { value: 'custom', label: t('range.custom') },
            ]}
          />
        )}
        {!live && !named && (
          <span className="flex items-center gap-1.5">
            <Input
              type="datetime-local"
              step="1"
              className="w-auto"
              aria-label={t('events.from')}
              value={toLocalInput(search.from)}
              onChange={(event) => event.target.value && onChange({ from: new Date(event.target.value).toISOString() })}
            />
            –
            <Input
              type="datetime-local"
              step="1"
              className="w-auto"
              aria-label={t('events.to')}
              value={toLocalInput(search.to)}
              onChange={(event) => event.target.value && onChange({ to: new Date(event.target.value).toISOString() })}
            />
          </span>
        )}
      </div>
      {search.field && (
        <ul className="flex flex-wrap gap-1.5" aria-label={t('events.fieldFilters')}>
          {search.field.map((field) => {
            const [name, value] = splitField(field);
            return (
              <li key={field} className="flex max-w-full items-center gap-1 rounded-md bg-accent-soft py-0.5 pr-1 pl-2 text-accent">
                <span className="font-mono text-xs">{name} =</span>
                <RawText oneLine text={value} className="min-w-0 font-semibold" />
                <button
                  type="button"
                  aria-label={t('events.removeFilter', { name })}
                  className="rounded p-0.5 hover:bg-surface"
                  onClick={() => onChange({ field: search.field?.filter((one) => one !== field) })}
                >
                  <X className="size-3.5" />
                </button>
              </li>
            );
          })}
        </ul>
      )}
    </div>
  );
}
