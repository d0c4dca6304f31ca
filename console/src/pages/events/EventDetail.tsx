import { Filter } from 'lucide-react';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import type { EcsDocument } from '../../api/types';
import { IconButton } from '../../design/Button';
import { CopyButton } from '../../design/CopyButton';
import { RawText } from '../../design/RawText';
import { Tabs } from '../../design/Tabs';
import { flatten, textOf } from '../../ecs/document';

interface EventDetailProps {
  event: EcsDocument;
  /** Offers "filter for this value" beside fields that can be searched. */
  onFilter?: (name: string, value: string) => void;
}

/** All fields of an event, and its JSON. */
export function EventDetail({ event, onFilter }: EventDetailProps) {
  const { t } = useTranslation();
  const [tab, setTab] = useState<'fields' | 'json'>('fields');
  const json = JSON.stringify(event, null, 2);
  return (
    <div className="px-4 pt-1 pb-4">
      <Tabs
        value={tab}
        onChange={setTab}
        label={t('events.detail')}
        tabs={[
          { id: 'fields', label: t('events.fields'), content: <FieldList event={event} onFilter={onFilter} /> },
          {
            id: 'json',
            label: 'JSON',
            content: (
              <div className="flex flex-col items-end gap-2">
                <CopyButton text={json} label={t('events.copyJson')} />
                <pre className="max-h-[70vh] w-full overflow-auto rounded-md border bg-sunken p-3">
                  <RawText text={json} />
                </pre>
              </div>
            ),
          },
        ]}
      />
    </div>
  );
}

function FieldList({ event, onFilter }: EventDetailProps) {
  const { t } = useTranslation();
  return (
    <dl>
      {flatten(event).map(([name, value]) => {
        const shown = textOf(value);
        return (
          <div key={name} className="group grid grid-cols-1 gap-x-4 border-b py-0.5 last:border-b-0 sm:grid-cols-[13rem_minmax(0,1fr)_auto]">
            <dt className="pt-0.5 font-mono text-xs text-muted [overflow-wrap:anywhere]">{name}</dt>
            <dd className="min-w-0 pt-0.5">
              {Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string') ? (
                <ol className="flex flex-col gap-0.5">
                  {value.map((one, index) => (
                    <li key={index}>
                      <RawText text={one} />
                    </li>
                  ))}
                </ol>
              ) : (
                <RawText text={shown} />
              )}
            </dd>
            <dd className="flex justify-end opacity-0 group-focus-within:opacity-100 group-hover:opacity-100 max-sm:hidden">
              {onFilter && !Array.isArray(value) && (
                <IconButton className="size-6" label={t('events.filterFor', { name })} onClick={() => onFilter(name, shown)}>
                  <Filter />
                </IconButton>
              )}
              <CopyButton small text={shown} />
            </dd>
          </div>
        );
      })}
    </dl>
  );
}
