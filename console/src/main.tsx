import './design/theme.css';

import { QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { whenSessionIsLost } from './api/client';
import { router } from './app/router';
import { queryClient, sessionQuery } from './app/session';
import { startTheme } from './app/theme';
import { ToastProvider } from './design/Toast';
import { startLanguage } from './i18n';

startTheme();
whenSessionIsLost(() => {
  queryClient.setQueryData(sessionQuery.queryKey, null);
  void router.invalidate();
});
await startLanguage();

const root = document.getElementById('root');
if (!root) throw new Error('index.html has no #root');
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <ToastProvider>
        <RouterProvider router={router} />
      </ToastProvider>
    </QueryClientProvider>
  </StrictMode>,
);
