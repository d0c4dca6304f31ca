import { Link } from '@tanstack/react-router';
import { Monitor, User } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import type { AlertDetail } from '../../api/types';
import { Card } from '../../design/Card';
import { CopyButton } from '../../design/CopyButton';
import { RawText } from '../../design/RawText';
import { text } from '../../ecs/document';
import { ResponseBadge } from './badges';

/** The alert in one look: who ran what, where, and what became of it. */
export function WhatHappened({ alert }: { alert: AlertDetail }) {
  const { t } = useTranslation();
  const { process } = alert;
  const hash = text(alert.event, 'process.hash.sha256');
  return (
    <Card title={t('alerts.whatHappened')} actions={<ResponseBadge responses={alert.responses} />}>
      {process ? (
        <>
          <p className="flex flex-wrap items-center gap-x-1.5 gap-y-1 text-muted">
            <span className="inline-flex items-center gap-1 font-medium text-ink">
              <User aria-hidden="true" className="size-4 text-faint" />
              {process.user || '?'}
            </span>
            {t('alerts.ranOn')}
            <Link
              to="/hosts/$hostId"
              params={{ hostId: alert.host_id }}
              className="inline-flex items-center gap-1 font-medium text-ink hover:underline"
            >
              <Monitor aria-hidden="true" className="size-4 text-faint" />
              {alert.host_name}
            </Link>
            {t('alerts.asPid', { pid: process.pid })}
          </p>
          <div className="mt-2 flex items-start justify-between gap-2 rounded-md border bg-sunken px-3 py-2">
            <RawText text={process.command_line || process.executable} />
            <CopyButton small text={process.command_line || process.executable} />
          </div>
          <dl className="mt-2 grid grid-cols-[auto_minmax(0,1fr)] gap-x-3 gap-y-1 text-xs">
            <dt className="text-muted">{t('alerts.image')}</dt>
            <dd>
              <RawText text={process.executable} />
            </dd>
            {hash && (
              <>
                <dt className="text-muted">SHA-256</dt>
                <dd className="flex items-start gap-1">
                  <RawText text={hash} />
                  <CopyButton small text={hash} />
                </dd>
              </>
            )}
          </dl>
          <p className="mt-3 flex flex-wrap gap-x-4 gap-y-1 text-xs">
            <Link
              to="/events"
              search={{ host: alert.host_id, field: [`process.entity_id:${process.entity_id}`], range: '7d' }}
              className="text-accent hover:underline"
            >
              {t('alerts.eventsOfProcess')}
            </Link>
            <Link
              to="/events"
              search={{ host: alert.host_id, field: [`process.parent.entity_id:${process.entity_id}`], range: '7d' }}
              className="text-accent hover:underline"
            >
              {t('alerts.eventsOfChildren')}
            </Link>
            <Link
              to="/events"
              search={{ field: [`process.executable:${process.executable}`], range: '7d' }}
              className="text-accent hover:underline"
            >
              {t('alerts.sameImage')}
            </Link>
          </p>
        </>
      ) : (
        <p className="text-muted">{t('alerts.noProcess', { host: alert.host_name })}</p>
      )}
    </Card>
  );
}
