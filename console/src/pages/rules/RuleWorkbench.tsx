import { type UseMutationResult, useQuery } from '@tanstack/react-query';
import { useBlocker } from '@tanstack/react-router';
import { Save } from 'lucide-react';
import { Suspense, lazy, useEffect, useMemo, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { ApiError, describeError } from '../../api/problem';
import { useMay } from '../../app/session';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { ConfirmDialog } from '../../design/Dialog';
import { SkeletonRows } from '../../design/States';
import type { RuleEditorHandle } from '../../editor/RuleEditor';
import { isJsonText } from '../../editor/language';
import { useDelayed } from '../use-delayed';
import { Diagnostics } from './Diagnostics';
import { FieldReference } from './FieldReference';

const RuleEditor = lazy(() => import('../../editor/RuleEditor'));
const CHECK_AFTER_MS = 350;

interface RuleWorkbenchProps<Saved> {
  initialText: string;
  save: UseMutationResult<Saved, Error, string>;
  isNew?: boolean;
}

/** The rule's text, what the engine says about it while one writes, and the fields to write with. */
export function RuleWorkbench<Saved>({ initialText, save, isNew }: RuleWorkbenchProps<Saved>) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const [text, setText] = useState(initialText);
  const [base, setBase] = useState(initialText);
  const [conflict, setConflict] = useState(false);
  const checkedText = useDelayed(text, CHECK_AFTER_MS);
  const editor = useRef<RuleEditorHandle>(null);
  const check = useQuery({
    queryKey: ['rule-check', checkedText],
    queryFn: () => api.checkRule(checkedText),
    enabled: may,
    staleTime: Infinity,
    placeholderData: (before) => before,
  });
  const fields = useQuery({ queryKey: ['fields'], queryFn: api.fields, staleTime: Infinity });

  // What a refused save says is as good as a check's answer.
  const refused = save.error instanceof ApiError && save.variables === text ? save.error.diagnostics : [];
  const diagnostics = useMemo(
    () => (refused.length ? refused : (check.data?.diagnostics ?? [])),
    [save.error, check.data, save.variables === text],
  );
  const dirty = text !== base;

  // The rule has a new text: from our own save, from a change of its mode (which
  // stands in the text too), or from someone else. What is being written stays.
  useEffect(() => {
    if (initialText === base) return;
    if (text === base) {
      editor.current?.replace(initialText);
      setText(initialText);
    }
    setConflict(text !== base && text !== initialText);
    setBase(initialText);
  }, [initialText, base, text]);

  const blocker = useBlocker({
    shouldBlockFn: () => dirty && !save.isPending,
    enableBeforeUnload: () => dirty,
    withResolver: true,
  });
  const submit = () => {
    if (may && !save.isPending) save.mutate(text);
  };

  return (
    <div className="grid min-h-0 flex-1 gap-4 lg:grid-cols-[minmax(0,1fr)_23rem]">
      <Card
        flush
        className="flex min-h-[26rem] flex-col overflow-hidden focus-within:border-accent focus-within:ring-1 focus-within:ring-accent [&>div]:min-h-0 [&>div]:flex-1"
        title={<span className="font-mono text-xs font-normal text-muted">{isJsonText(text) ? 'rule.json' : 'rule.yml'}</span>}
        actions={
          may && (
            <>
              {dirty && <span className="text-warn">{conflict ? t('rules.changedMeanwhile') : t('rules.unsaved')}</span>}
              <Button
                variant="primary"
                size="sm"
                icon={<Save />}
                data-testid="rule-save"
                busy={save.isPending}
                disabled={!isNew && !dirty}
                title="Ctrl+S"
                onClick={submit}
              >
                {t('common.save')}
              </Button>
            </>
          )
        }
      >
        <Suspense fallback={<SkeletonRows />}>
          <RuleEditor
            ref={editor}
            initialText={initialText}
            onChange={setText}
            onSave={submit}
            diagnostics={diagnostics}
            fields={fields.data ?? NO_FIELDS}
            label={t('rules.editor')}
            readOnly={!may}
          />
        </Suspense>
      </Card>
      <div className="flex min-h-0 flex-col gap-4">
        {may && (
          <Card title={t('rules.check')} testId="rule-diagnostics" className="shrink-0">
            {save.error && refused.length === 0 && (
              <p role="alert" className="mb-2 text-bad">
                {describeError(save.error)}
              </p>
            )}
            {check.error ? (
              <p role="alert" className="text-bad">
                {describeError(check.error)}
              </p>
            ) : (
              <Diagnostics
                checked={check.data}
                diagnostics={diagnostics}
                onGoTo={(one) => editor.current?.goTo(one.line, one.column)}
              />
            )}
          </Card>
        )}
        <FieldReference fields={fields.data ?? NO_FIELDS} type={check.data?.rule?.type} />
      </div>
      <ConfirmDialog
        open={blocker.status === 'blocked'}
        onClose={() => blocker.reset?.()}
        onConfirm={() => blocker.proceed?.()}
        title={t('rules.leaveTitle')}
        confirmLabel={t('rules.leave')}
      >
        {t('rules.leaveText')}
      </ConfirmDialog>
    </div>
  );
}

const NO_FIELDS: never[] = [];
