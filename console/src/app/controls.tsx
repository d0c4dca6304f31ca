import { useNavigate } from '@tanstack/react-router';
import { CircleUser, KeyRound, Languages, LogOut, MonitorCog, Moon, Sun } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import { api } from '../api/endpoints';
import { Menu } from '../design/Menu';
import { useToast } from '../design/Toast';
import { switchLanguage } from '../i18n';
import { useForgetSession, useUser } from './session';
import { nextTheme, useTheme } from './theme';

const TOGGLE =
  'inline-flex h-7 items-center gap-1.5 rounded-md px-2 text-xs text-sidebar-muted hover:bg-sidebar-active hover:text-sidebar-ink [&_svg]:size-4';
const THEME_ICONS = { system: MonitorCog, light: Sun, dark: Moon };

export function ThemeToggle() {
  const { t } = useTranslation();
  const { choice } = useTheme();
  const Icon = THEME_ICONS[choice];
  const label = `${t('nav.theme')}: ${t(`theme.${choice}`)}`;
  return (
    <button type="button" data-testid="theme-toggle" data-theme-choice={choice} aria-label={label} title={label} onClick={nextTheme} className={TOGGLE}>
      <Icon aria-hidden="true" />
      <span className="hidden md:inline">{t(`theme.${choice}`)}</span>
    </button>
  );
}

export function LanguageToggle() {
  const { t, i18n } = useTranslation();
  const next = i18n.language === 'zh-CN' ? 'en' : 'zh-CN';
  return (
    <button
      type="button"
      data-testid="language-toggle"
      aria-label={t('nav.language')}
      title={t('nav.language')}
      onClick={() => void switchLanguage(next)}
      className={TOGGLE}
    >
      <Languages aria-hidden="true" />
      <span lang={next}>{next === 'en' ? 'English' : '中文'}</span>
    </button>
  );
}

export function AccountMenu() {
  const { t } = useTranslation();
  const user = useUser();
  const navigate = useNavigate();
  const forget = useForgetSession();
  const toast = useToast();

  async function signOut() {
    try {
      await api.signOut();
      forget();
      await navigate({ to: '/sign-in', search: {} });
    } catch (error) {
      toast.failed(error);
    }
  }

  if (!user) return null;
  return (
    <Menu
      side="top"
      trigger={
        <button
          type="button"
          aria-label={t('nav.account')}
          className="flex items-center gap-2.5 rounded-md px-2 py-1.5 text-left text-sm text-sidebar-ink hover:bg-sidebar-active"
        >
          <CircleUser aria-hidden="true" className="size-5 shrink-0 text-sidebar-muted" />
          <span className="hidden min-w-0 leading-tight md:block">
            <span className="block truncate">{user.username}</span>
            <span className="block text-2xs text-sidebar-muted">{t(`role.${user.role}`)}</span>
          </span>
        </button>
      }
      items={[
        {
          label: t('nav.changePassword'),
          icon: <KeyRound />,
          onSelect: () => void navigate({ to: '/change-password', search: {} }),
        },
        { label: t('nav.signOut'), icon: <LogOut />, onSelect: () => void signOut(), testId: 'sign-out' },
      ]}
    />
  );
}
