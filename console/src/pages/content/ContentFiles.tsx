import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { Plus } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { type ContentKind, api } from '../../api/endpoints';
import { useMay } from '../../app/session';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { Input } from '../../design/Field';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { formatNumber } from '../../i18n/format';
import { SimpleTable } from '../settings/SimpleTable';
import { NAME_PATTERN } from './kinds';

/** The files of a kind, and the way to a new one. */
export function ContentFiles({ kind }: { kind: ContentKind }) {
  const { t, i18n } = useTranslation();
  const may = useMay('edit_rules');
  const files = useQuery({ queryKey: ['content', kind], queryFn: api.content[kind].list });
  const number = (value: number) => formatNumber(value, i18n.language);
  return (
    <Card flush title={t(`content.files.${kind}`)} actions={may && <NewFile kind={kind} />}>
      <Fetched query={files} rows={2}>
        {({ items }) =>
          items.length === 0 ? (
            <EmptyState title={t('content.none')} />
          ) : (
            <SimpleTable
              label={t(`content.files.${kind}`)}
              head={[t('content.name'), t(`content.entries.${kind}`), t('content.bytes'), t('content.changed')]}
              rows={items.map((file) => ({
                key: file.name,
                cells: [
                  <Link
                    key="name"
                    to="/content/$kind/$name"
                    params={{ kind, name: file.name }}
                    className="font-medium hover:underline"
                    data-testid="content-file"
                  >
                    {file.name}
                  </Link>,
                  number(file.entries),
                  number(file.bytes),
                  <span key="changed" className="text-muted">
                    <Time value={file.updated_at} form="relative" /> · {file.updated_by}
                  </span>,
                ],
              }))}
            />
          )
        }
      </Fetched>
    </Card>
  );
}

function NewFile({ kind }: { kind: ContentKind }) {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const [name, setName] = useState('');
  function submit(event: FormEvent) {
    event.preventDefault();
    void navigate({ to: '/content/$kind/$name', params: { kind, name } });
  }
  return (
    <form onSubmit={submit} className="flex items-center gap-2">
      <Input
        required
        className="w-48"
        pattern={NAME_PATTERN}
        title={t('content.nameHint')}
        aria-label={t('content.newName')}
        placeholder={t('content.newName')}
        data-testid="content-new-name"
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <Button type="submit" size="sm" icon={<Plus />} data-testid="content-new">
        {t('content.new')}
      </Button>
    </form>
  );
}
