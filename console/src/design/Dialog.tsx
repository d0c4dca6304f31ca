import * as AlertDialog from '@radix-ui/react-alert-dialog';
import * as RadixDialog from '@radix-ui/react-dialog';
import { X } from 'lucide-react';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import { Button, IconButton } from './Button';
import { cx } from './cx';

// Radix's own Overlay locks scrolling by adding a <style> element, which the
// console's CSP refuses. A plain element behind the content looks the same.
const VEIL = 'fixed inset-0 z-40 bg-[rgb(8_12_20/0.5)]';

interface DialogProps {
  open: boolean;
  onClose: () => void;
  title: ReactNode;
  description?: ReactNode;
  children: ReactNode;
  /** `drawer` slides in at the right edge and takes the full height. */
  kind?: 'dialog' | 'drawer';
  wide?: boolean;
  testId?: string;
}

export function Dialog({ open, onClose, title, description, children, kind = 'dialog', wide, testId }: DialogProps) {
  const { t } = useTranslation();
  return (
    <RadixDialog.Root open={open} onOpenChange={(next) => !next && onClose()}>
      <RadixDialog.Portal>
        <div className={VEIL} aria-hidden="true" />
        <RadixDialog.Content
          data-testid={testId}
          {...(description ? {} : { 'aria-describedby': undefined })}
          className={cx(
            'fixed z-50 flex flex-col bg-raised text-ink pop-shadow outline-none',
            kind === 'dialog' &&
              'top-1/2 left-1/2 max-h-[90vh] w-[calc(100vw-1.5rem)] -translate-x-1/2 -translate-y-1/2 rounded-lg border',
            kind === 'dialog' && (wide ? 'max-w-3xl' : 'max-w-md'),
            kind === 'drawer' && 'inset-y-0 right-0 w-full max-w-2xl border-l',
          )}
        >
          <header className="flex items-start justify-between gap-3 border-b px-4 py-3">
            <div className="min-w-0">
              <RadixDialog.Title className="text-base font-semibold [overflow-wrap:anywhere]">{title}</RadixDialog.Title>
              {description && (
                <RadixDialog.Description className="mt-0.5 text-xs text-muted">{description}</RadixDialog.Description>
              )}
            </div>
            <RadixDialog.Close asChild>
              <IconButton label={t('common.close')}>
                <X />
              </IconButton>
            </RadixDialog.Close>
          </header>
          <div className="min-h-0 flex-1 overflow-auto p-4">{children}</div>
        </RadixDialog.Content>
      </RadixDialog.Portal>
    </RadixDialog.Root>
  );
}

interface ConfirmDialogProps {
  open: boolean;
  onClose: () => void;
  onConfirm: () => void;
  title: ReactNode;
  children: ReactNode;
  confirmLabel: string;
  busy?: boolean;
}

/** Asks before something that can't be taken back. */
export function ConfirmDialog({ open, onClose, onConfirm, title, children, confirmLabel, busy }: ConfirmDialogProps) {
  const { t } = useTranslation();
  return (
    <AlertDialog.Root open={open} onOpenChange={(next) => !next && onClose()}>
      <AlertDialog.Portal>
        <div className={VEIL} aria-hidden="true" />
        <AlertDialog.Content className="fixed top-1/2 left-1/2 z-50 w-[calc(100vw-1.5rem)] max-w-md -translate-x-1/2 -translate-y-1/2 rounded-lg border bg-raised p-4 text-ink pop-shadow outline-none">
          <AlertDialog.Title className="text-base font-semibold">{title}</AlertDialog.Title>
          <AlertDialog.Description asChild>
            <div className="mt-2 text-sm text-muted [overflow-wrap:anywhere]">{children}</div>
          </AlertDialog.Description>
          <div className="mt-4 flex justify-end gap-2">
            <AlertDialog.Cancel asChild>
              <Button>{t('common.cancel')}</Button>
            </AlertDialog.Cancel>
            <Button variant="danger" busy={busy} data-testid="confirm-accept" onClick={onConfirm}>
              {confirmLabel}
            </Button>
          </div>
        </AlertDialog.Content>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}
