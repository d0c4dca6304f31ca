import { useMutation, useQueryClient } from '@tanstack/react-query';

import { api } from '../../api/endpoints';
import type { ResponseMode } from '../../api/types';
import { useToast } from '../../design/Toast';

/** Changes what stands beside a rule's conditions. */
export function useChangeRule(ruleId: string) {
  const client = useQueryClient();
  const toast = useToast();
  return useMutation({
    mutationFn: (change: { enabled?: boolean; mode?: ResponseMode }) => api.changeRule(ruleId, change),
    onSuccess: () => client.invalidateQueries({ queryKey: ['rules'] }),
    onError: toast.failed,
  });
}
