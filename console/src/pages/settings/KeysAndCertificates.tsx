import { useQuery } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Certificate } from '../../api/types';
import { Badge } from '../../design/Badge';
import { Card, Facts } from '../../design/Card';
import { CopyButton } from '../../design/CopyButton';
import { Fetched } from '../../design/States';
import { Time } from '../../design/Time';

const WARN_BEFORE_DAYS = 30;
const DAY_MS = 86_400_000;

export function KeysAndCertificates() {
  const { t } = useTranslation();
  const keys = useQuery({ queryKey: ['keys'], queryFn: api.keys });
  return (
    <Fetched query={keys}>
      {(data) => (
        <div className="grid items-start gap-4 lg:grid-cols-2">
          <CertificateCard title={t('settings.ca')} note={t('settings.caNote')} certificate={data.ca} />
          <CertificateCard title={t('settings.tls')} note={t('settings.tlsNote')} certificate={data.tls} />
          <Card title={t('settings.batchKey')} actions={<CopyButton text={data.batch_key.pem} label={t('settings.copyPem')} />}>
            <p className="mb-3 text-xs text-muted">{t('settings.batchKeyNote')}</p>
            <Facts
              items={[
                [t('settings.keyKind'), `RSA ${data.batch_key.bits}`],
                ['SHA-256', <Fingerprint key="sha" value={data.batch_key.sha256} />],
              ]}
            />
          </Card>
          <Card title={t('settings.commandKey')}>
            <p className="mb-3 text-xs text-muted">{t('settings.commandKeyNote')}</p>
            <Facts
              items={[
                [t('settings.keyKind'), 'Ed25519'],
                ['SHA-256', <Fingerprint key="sha" value={data.command_key.sha256} />],
              ]}
            />
          </Card>
        </div>
      )}
    </Fetched>
  );
}

function CertificateCard({ title, note, certificate }: { title: string; note: string; certificate: Certificate }) {
  const { t } = useTranslation();
  const daysLeft = Math.floor((Date.parse(certificate.not_after) - Date.now()) / DAY_MS);
  return (
    <Card
      title={title}
      actions={
        <Badge tone={daysLeft < 0 ? 'bad' : daysLeft < WARN_BEFORE_DAYS ? 'warn' : 'good'}>
          {daysLeft < 0 ? t('settings.expired') : t('settings.daysLeft', { count: daysLeft })}
        </Badge>
      }
    >
      <p className="mb-3 text-xs text-muted">{note}</p>
      <Facts
        items={[
          [t('settings.subject'), certificate.subject],
          [t('settings.names'), certificate.sans.length ? <Names key="names" names={certificate.sans} /> : '–'],
          [t('settings.validFrom'), <Time key="from" value={certificate.not_before} />],
          [t('settings.validTo'), <Time key="to" value={certificate.not_after} />],
          ['SHA-256', <Fingerprint key="sha" value={certificate.sha256} />],
        ]}
      />
    </Card>
  );
}

function Names({ names }: { names: string[] }): ReactNode {
  return (
    <span className="flex flex-wrap gap-1">
      {names.map((name) => (
        <Badge key={name}>{name}</Badge>
      ))}
    </span>
  );
}

function Fingerprint({ value }: { value: string }) {
  return (
    <span className="flex items-start gap-1">
      <span className="font-mono text-xs break-all">{value}</span>
      <CopyButton small text={value} />
    </span>
  );
}
