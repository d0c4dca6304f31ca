import { QueryClient, queryOptions, useQuery, useQueryClient } from '@tanstack/react-query';

import { api } from '../api/endpoints';
import { ApiError } from '../api/problem';
import type { Role, User } from '../api/types';

export type Permission = 'work_on_alerts' | 'respond' | 'approve' | 'edit_rules' | 'administer' | 'read_audit';

/** Which roles have it; everyone may read the rest. The server has the same table and decides. */
const GRANTED: Record<Permission, Role[]> = {
  work_on_alerts: ['analyst', 'responder', 'playbook_runner', 'detection_engineer', 'approver', 'administrator'],
  respond: ['responder', 'administrator'],
  approve: ['approver', 'administrator'],
  edit_rules: ['detection_engineer', 'administrator'],
  administer: ['administrator'],
  read_audit: ['auditor', 'administrator'],
};

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      retry: (failures, error) => failures < 2 && !(error instanceof ApiError && error.status < 500),
    },
  },
});

/** Who is signed in; null when nobody is. */
export const sessionQuery = queryOptions({
  queryKey: ['session'],
  staleTime: 60_000,
  queryFn: async (): Promise<User | null> => {
    try {
      return (await api.session()).user;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return null;
      throw error;
    }
  },
});

export function useUser(): User | null {
  return useQuery(sessionQuery).data ?? null;
}

/** Whether to offer what the server would allow. */
export function useMay(permission: Permission): boolean {
  const user = useUser();
  return user !== null && GRANTED[permission].includes(user.role);
}

export function useForgetSession(): () => void {
  const client = useQueryClient();
  return () => {
    client.clear();
    client.setQueryData(sessionQuery.queryKey, null);
  };
}
