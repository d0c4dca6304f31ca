import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, getRouteApi, useBlocker, useNavigate } from '@tanstack/react-router';
import { ChevronRight, Save, Trash2 } from 'lucide-react';
import { Suspense, lazy, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { type ContentKind, api } from '../../api/endpoints';
import { ApiError, describeError } from '../../api/problem';
import { useMay } from '../../app/session';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { ConfirmDialog } from '../../design/Dialog';
import { Page } from '../../design/Page';
import { EmptyState, Fetched, SkeletonRows } from '../../design/States';
import { useToast } from '../../design/Toast';
import type { RuleEditorHandle } from '../../editor/RuleEditor';
import { DiagnosticList } from '../rules/Diagnostics';
import { useDelayed } from '../use-delayed';
import { STARTING_TEXT, isContentKind } from './kinds';

const RuleEditor = lazy(() => import('../../editor/RuleEditor'));
const route = getRouteApi('/shell/content/$kind/$name');
const CHECK_AFTER_MS = 500;
const NO_FIELDS: never[] = [];

export function ContentFilePage() {
  const { t } = useTranslation();
  const { kind, name } = route.useParams();
  if (!isContentKind(kind)) return <EmptyState title={t('common.nothingMatches')} />;
  return <OneFile key={`${kind}/${name}`} kind={kind} name={name} />;
}

function OneFile({ kind, name }: { kind: ContentKind; name: string }) {
  const { t } = useTranslation();
  const file = useQuery({
    queryKey: ['content', kind, name],
    queryFn: async () => {
      try {
        return { text: (await api.content[kind].one(name)).text, isNew: false };
      } catch (error) {
        // A file of this name is still to be written.
        if (error instanceof ApiError && error.status === 404) return { text: STARTING_TEXT[kind], isNew: true };
        throw error;
      }
    },
    // What is being written is not to be replaced.
    staleTime: Infinity,
  });
  return (
    <Page
      fill
      title={
        <span className="flex flex-wrap items-center gap-x-2.5">
          <span className="flex items-center gap-1 font-normal text-muted">
            <Link to="/content/{-$tab}" params={{ tab: kind }} className="hover:underline">
              {t(`content.kind.${kind}`)}
            </Link>
            <ChevronRight aria-hidden="true" className="size-4" />
          </span>
          {name}
        </span>
      }
      summary={t(`content.hint.${kind}`)}
      actions={file.data && !file.data.isNew && <DeleteFile kind={kind} name={name} />}
    >
      <Fetched query={file}>{(data) => <Workbench kind={kind} name={name} initialText={data.text} isNew={data.isNew} />}</Fetched>
    </Page>
  );
}

interface WorkbenchProps {
  kind: ContentKind;
  name: string;
  initialText: string;
  isNew: boolean;
}

/** The file's text, and what its reader says about it while one writes. */
function Workbench({ kind, name, initialText, isNew }: WorkbenchProps) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const client = useQueryClient();
  const toast = useToast();
  const [text, setText] = useState(initialText);
  const [saved, setSaved] = useState(isNew ? undefined : initialText);
  const editor = useRef<RuleEditorHandle>(null);
  const checkedText = useDelayed(text, CHECK_AFTER_MS);
  const check = useQuery({
    queryKey: ['content-check', kind, name, checkedText],
    queryFn: () => api.content[kind].check(name, checkedText),
    enabled: may,
    staleTime: Infinity,
    gcTime: 0,
    placeholderData: (before) => before,
  });
  const save = useMutation({
    mutationFn: (wanted: string) => api.content[kind].save(name, wanted),
    onSuccess: async (_, wanted) => {
      toast.done(t('content.saved', { name }));
      setSaved(wanted);
      client.setQueryData(['content', kind, name], { text: wanted, isNew: false });
      await client.invalidateQueries({ queryKey: ['content', kind], exact: true });
      await client.invalidateQueries({ queryKey: ['behaviours'] });
    },
  });
  const dirty = text !== saved;
  const written = text !== initialText && dirty;
  const blocker = useBlocker({ shouldBlockFn: () => written && !save.isPending, enableBeforeUnload: () => written, withResolver: true });
  const refused = save.error instanceof ApiError && save.variables === text ? save.error.diagnostics : [];
  const diagnostics = refused.length ? refused : (check.data?.diagnostics ?? []);
  const submit = () => {
    if (may && dirty && !save.isPending) save.mutate(text);
  };
  const failure = check.error ?? (refused.length ? null : save.error);

  return (
    <div className="grid min-h-0 flex-1 gap-4 lg:grid-cols-[minmax(0,1fr)_23rem]">
      <Card
        flush
        className="flex min-h-[26rem] flex-col overflow-hidden focus-within:border-accent focus-within:ring-1 focus-within:ring-accent [&>div]:min-h-0 [&>div]:flex-1"
        title={<span className="font-mono text-xs font-normal text-muted">{name}</span>}
        actions={
          may && (
            <>
              {dirty && <span className="text-warn">{t('rules.unsaved')}</span>}
              <Button variant="primary" size="sm" icon={<Save />} data-testid="content-save" busy={save.isPending} disabled={!dirty} title="Ctrl+S" onClick={submit}>
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
            fields={NO_FIELDS}
            label={t(`content.files.${kind}`)}
            readOnly={!may}
          />
        </Suspense>
      </Card>
      {may && (
        <Card title={t('rules.check')} testId="content-diagnostics" className="self-start">
          {failure && (
            <p role="alert" className="mb-2 text-bad">
              {describeError(failure)}
            </p>
          )}
          {check.data?.ok && refused.length === 0 && (
            <p className="mb-2 text-good">{t('content.valid', { count: check.data.entries })}</p>
          )}
          <DiagnosticList diagnostics={diagnostics} onGoTo={(one) => editor.current?.goTo(one.line, one.column)} />
        </Card>
      )}
      <ConfirmDialog
        open={blocker.status === 'blocked'}
        onClose={() => blocker.reset?.()}
        onConfirm={() => blocker.proceed?.()}
        title={t('rules.leaveTitle')}
        confirmLabel={t('rules.leave')}
      >
        {t('content.leaveText')}
      </ConfirmDialog>
    </div>
  );
}

function DeleteFile({ kind, name }: { kind: ContentKind; name: string }) {
  const { t } = useTranslation();
  const may = useMay('edit_rules');
  const client = useQueryClient();
  const navigate = useNavigate();
  const toast = useToast();
  const [asking, setAsking] = useState(false);
  const remove = useMutation({
    mutationFn: () => api.content[kind].remove(name),
    onSuccess: async () => {
      toast.done(t('content.deleted', { name }));
      await navigate({ to: '/content/{-$tab}', params: { tab: kind }, ignoreBlocker: true });
      client.removeQueries({ queryKey: ['content', kind, name] });
      await client.invalidateQueries({ queryKey: ['content', kind] });
      await client.invalidateQueries({ queryKey: ['behaviours'] });
    },
    onError: toast.failed,
  });
  if (!may) return null;
  return (
    <>
      <Button variant="danger" icon={<Trash2 />} data-testid="content-delete" onClick={() => setAsking(true)}>
        {t('common.delete')}
      </Button>
      <ConfirmDialog
        open={asking}
        onClose={() => setAsking(false)}
        onConfirm={() => remove.mutate()}
        busy={remove.isPending}
        title={t('rules.deleteTitle', { name })}
        confirmLabel={t('common.delete')}
      >
        {t('content.deleteText')}
      </ConfirmDialog>
    </>
  );
}
