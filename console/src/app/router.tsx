import { createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from '@tanstack/react-router';

import { ErrorState } from '../design/States';
import type { EventSearch } from '../pages/events/query';
import { NotFound } from './NotFound';
import { parseSearch, pickList, pickText, stringifySearch } from './search-params';
import { queryClient, sessionQuery } from './session';
import { Shell } from './Shell';

const root = createRootRoute({ notFoundComponent: NotFound });

const signIn = createRoute({
  getParentRoute: () => root,
  path: '/sign-in',
  validateSearch: (search) => pickText(search, ['next']),
  component: lazyRouteComponent(() => import('../pages/sign-in/SignInPage'), 'SignInPage'),
});

const changePassword = createRoute({
  getParentRoute: () => root,
  path: '/change-password',
  validateSearch: (search) => pickText(search, ['next']),
  component: lazyRouteComponent(() => import('../pages/sign-in/ChangePasswordPage'), 'ChangePasswordPage'),
});

/** Everything behind the sign-in. */
const shell = createRoute({
  getParentRoute: () => root,
  id: 'shell',
  component: Shell,
  beforeLoad: async ({ location }) => {
    const user = await queryClient.ensureQueryData(sessionQuery);
    const next = location.href === '/' ? undefined : location.href;
    if (!user) throw redirect({ to: '/sign-in', search: { next } });
    if (user.must_change_password) throw redirect({ to: '/change-password', search: { next } });
  },
});

const dashboard = createRoute({
  getParentRoute: () => shell,
  path: '/',
  component: lazyRouteComponent(() => import('../pages/dashboard/DashboardPage'), 'DashboardPage'),
});

const hosts = createRoute({
  getParentRoute: () => shell,
  path: '/hosts',
  validateSearch: (search) => pickText(search, ['q', 'status']),
  component: lazyRouteComponent(() => import('../pages/hosts/HostsPage'), 'HostsPage'),
});

const host = createRoute({
  getParentRoute: () => shell,
  path: '/hosts/$hostId',
  component: lazyRouteComponent(() => import('../pages/hosts/HostPage'), 'HostPage'),
});

const events = createRoute({
  getParentRoute: () => shell,
  path: '/events',
  validateSearch: (search): EventSearch => ({
    ...pickText(search, ['q', 'host', 'type', 'range', 'from', 'to', 'live', 'event']),
    field: pickList(search, 'field'),
  }),
  component: lazyRouteComponent(() => import('../pages/events/EventsPage'), 'EventsPage'),
});

const alerts = createRoute({
  getParentRoute: () => shell,
  path: '/alerts',
  validateSearch: (search) => pickText(search, ['q', 'status', 'severity', 'host', 'rule']),
  component: lazyRouteComponent(() => import('../pages/alerts/AlertsPage'), 'AlertsPage'),
});

const alert = createRoute({
  getParentRoute: () => shell,
  path: '/alerts/$alertId',
  component: lazyRouteComponent(() => import('../pages/alerts/AlertPage'), 'AlertPage'),
});

const responses = createRoute({
  getParentRoute: () => shell,
  path: '/responses',
  validateSearch: (search) => pickText(search, ['state']),
  component: lazyRouteComponent(() => import('../pages/responses/ResponsesPage'), 'ResponsesPage'),
});

const rules = createRoute({
  getParentRoute: () => shell,
  path: '/rules',
  validateSearch: (search) => pickText(search, ['q', 'type', 'severity']),
  component: lazyRouteComponent(() => import('../pages/rules/RulesPage'), 'RulesPage'),
});

const newRule = createRoute({
  getParentRoute: () => shell,
  path: '/rules/new',
  validateSearch: (search) => pickText(search, ['template']),
  component: lazyRouteComponent(() => import('../pages/rules/RulePage'), 'NewRulePage'),
});

const rule = createRoute({
  getParentRoute: () => shell,
  path: '/rules/$ruleId',
  component: lazyRouteComponent(() => import('../pages/rules/RulePage'), 'RulePage'),
});

const content = createRoute({
  getParentRoute: () => shell,
  path: '/content/{-$tab}',
  component: lazyRouteComponent(() => import('../pages/content/ContentPage'), 'ContentPage'),
});

const contentFile = createRoute({
  getParentRoute: () => shell,
  path: '/content/$kind/$name',
  component: lazyRouteComponent(() => import('../pages/content/ContentFilePage'), 'ContentFilePage'),
});

const settings = createRoute({
  getParentRoute: () => shell,
  path: '/settings/{-$tab}',
  component: lazyRouteComponent(() => import('../pages/settings/SettingsPage'), 'SettingsPage'),
});

export const router = createRouter({
  routeTree: root.addChildren([
    signIn,
    changePassword,
    shell.addChildren([
      dashboard,
      hosts,
      host,
      events,
      alerts,
      alert,
      responses,
      rules,
      newRule,
      rule,
      content,
      contentFile,
      settings,
    ]),
  ]),
  parseSearch,
  stringifySearch,
  defaultPreload: 'intent',
  scrollRestoration: false,
  defaultErrorComponent: ({ error, reset }) => <ErrorState error={error} onRetry={reset} />,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
