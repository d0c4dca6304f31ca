import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import type { FieldDescription, RuleType } from '../../api/types';
import { Card } from '../../design/Card';
import { Input } from '../../design/Field';

/** Fields that a rule of this type can use, with their short names; from the server's one table. */
export function FieldReference({ fields, type = 'process' }: { fields: FieldDescription[]; type?: RuleType }) {
  const { t } = useTranslation();
  const [words, setWords] = useState('');
  const wanted = words.toLowerCase();
  const shown = fields.filter(
    (field) =>
      field.rule_types.includes(type) &&
      `${field.name} ${field.rule_names.join(' ')} ${field.sigma_names.join(' ')} ${field.description}`.toLowerCase().includes(wanted),
  );
  return (
    <Card
      title={t('rules.fields', { type: t(`ruleType.${type}`) })}
      className="flex min-h-48 flex-col overflow-hidden [&>div]:flex [&>div]:min-h-0 [&>div]:flex-1 [&>div]:flex-col"
    >
      <p className="mb-2 text-xs text-muted">
        {t('rules.operators')}{' '}
        <code className="font-mono text-2xs">= != &gt; &lt; &gt;= &lt;= contains startswith endswith matches in “not in” and or not ( )</code>
      </p>
      <Input type="search" aria-label={t('rules.findField')} placeholder={t('rules.findField')} value={words} onChange={(event) => setWords(event.target.value)} />
      <dl tabIndex={0} className="mt-2 min-h-0 flex-1 overflow-auto">
        {shown.map((field) => (
          <div key={field.name} className="border-b py-1.5 last:border-b-0">
            <dt className="flex flex-wrap items-baseline gap-x-2 font-mono text-xs">
              <span className="font-semibold">{field.rule_names[0] ?? field.name}</span>
              <span className="text-faint">{[...field.rule_names.slice(1), field.name].join(', ')}</span>
            </dt>
            <dd className="text-xs text-muted" lang="en">
              {field.description}
            </dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}
