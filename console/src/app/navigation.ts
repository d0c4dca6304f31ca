import { Bell, FileSearch, Gauge, ListTree, Monitor, Scale, Settings, Zap } from 'lucide-react';

/** The main pages: order of the side bar, and `g` + key goes there. */
export const PAGES = [
  { id: 'dashboard', to: '/', key: 'd', icon: Gauge },
  { id: 'alerts', to: '/alerts', key: 'a', icon: Bell },
  { id: 'events', to: '/events', key: 'e', icon: ListTree },
  { id: 'hosts', to: '/hosts', key: 'h', icon: Monitor },
  { id: 'responses', to: '/responses', key: 'o', icon: Zap },
  { id: 'rules', to: '/rules', key: 'r', icon: Scale },
  { id: 'content', to: '/content/{-$tab}', key: 'c', icon: FileSearch },
  { id: 'settings', to: '/settings/{-$tab}', key: 's', icon: Settings },
] as const;
