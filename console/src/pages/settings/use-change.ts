import { useMutation, useQueryClient } from '@tanstack/react-query';

import { useToast } from '../../design/Toast';

/** A change after which one list is fetched again; a refusal becomes a toast. */
export function useChange<Input, Output>(listKey: string, change: (input: Input) => Promise<Output>) {
  const client = useQueryClient();
  const toast = useToast();
  return useMutation({
    mutationFn: change,
    onSuccess: () => client.invalidateQueries({ queryKey: [listKey] }),
    onError: toast.failed,
  });
}
