import { Link } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';

import { EmptyState } from '../design/States';

export function NotFound() {
  const { t } = useTranslation();
  return (
    <EmptyState title={t('common.pageNotFound')}>
      <Link to="/" className="text-accent underline">
        {t('nav.dashboard')}
      </Link>
    </EmptyState>
  );
}
