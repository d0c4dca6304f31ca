// CodeMirror adds its styles to the root that it lives in. In a document that is
// a <style> element, which the CSP refuses; in a shadow root it is a constructed
// style sheet, which is allowed. So the editor lives in a shadow root.
import { autocompletion } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { json } from '@codemirror/lang-json';
import { bracketMatching, indentUnit } from '@codemirror/language';
import { type Diagnostic as Marker, lintGutter, setDiagnostics } from '@codemirror/lint';
import { EditorState, type Text } from '@codemirror/state';
import { EditorView, drawSelection, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from '@codemirror/view';
import { useEffect, useImperativeHandle, useRef } from 'react';

import type { Diagnostic, FieldDescription } from '../api/types';
import { completeCondition } from './completion';
import { isJsonText } from './language';
import { editorTheme } from './theme';

export interface RuleEditorHandle {
  goTo: (line: number, column: number) => void;
  /** Puts another text in place of the whole. */
  replace: (text: string) => void;
}

interface RuleEditorProps {
  initialText: string;
  onChange: (text: string) => void;
  onSave: () => void;
  diagnostics: Diagnostic[];
  fields: FieldDescription[];
  label: string;
  readOnly?: boolean;
  ref?: React.Ref<RuleEditorHandle>;
}

export default function RuleEditor({ initialText, onChange, onSave, diagnostics, fields, label, readOnly, ref }: RuleEditorProps) {
  const frame = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const latest = useRef({ onChange, onSave, fields });
  const start = useRef(initialText);
  useEffect(() => {
    latest.current = { onChange, onSave, fields };
  });

  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const root = element.shadowRoot ?? element.attachShadow({ mode: 'open' });
    const editor = new EditorView({
      parent: root,
      root,
      state: EditorState.create({
        doc: start.current,
        extensions: [
          lineNumbers(),
          lintGutter(),
          history(),
          drawSelection(),
          bracketMatching(),
          highlightActiveLine(),
          highlightActiveLineGutter(),
          EditorView.lineWrapping,
          indentUnit.of('  '),
          // Sigma's YAML is shown as plain text.
          isJsonText(start.current)
            ? [json(), autocompletion({ override: [(context) => completeCondition(context, latest.current.fields)] })]
            : [],
          keymap.of([
            {
              key: 'Mod-s',
              run: () => {
                latest.current.onSave();
                return true;
              },
            },
            ...defaultKeymap,
            ...historyKeymap,
            indentWithTab,
          ]),
          EditorState.readOnly.of(readOnly ?? false),
          EditorView.contentAttributes.of({ 'aria-label': label, spellcheck: 'false' }),
          EditorView.domEventHandlers({ beforeinput: replaceSelection }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) latest.current.onChange(update.state.doc.toString());
          }),
          editorTheme,
        ],
      }),
    });
    view.current = editor;
    return () => {
      start.current = editor.state.doc.toString();
      editor.destroy();
      view.current = null;
    };
  }, [label, readOnly]);

  useEffect(() => {
    const editor = view.current;
    if (editor) editor.dispatch(setDiagnostics(editor.state, diagnostics.map((one) => marker(editor.state.doc, one))));
  }, [diagnostics]);

  useImperativeHandle(ref, () => ({
    goTo: (line, column) => {
      const editor = view.current;
      if (!editor) return;
      const place = offset(editor.state.doc, line, column);
      editor.dispatch({ selection: { anchor: place }, scrollIntoView: true });
      editor.focus();
    },
    replace: (text) => {
      const editor = view.current;
      editor?.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: text } });
    },
  }));

  return <div ref={frame} data-testid="rule-editor" className="h-full min-h-0 [&>*]:h-full" />;
}

/**
 * Text typed over a selection. Left to the browser, it would keep the look of what
 * was selected with a `style` attribute, which the CSP refuses and reports.
 */
function replaceSelection(event: InputEvent, view: EditorView): boolean {
  if (event.inputType !== 'insertText' || event.data === null || view.composing || view.state.selection.main.empty) return false;
  event.preventDefault();
  view.dispatch(view.state.replaceSelection(event.data), { userEvent: 'input.type', scrollIntoView: true });
  return true;
}

function marker(document: Text, diagnostic: Diagnostic): Marker {
  const from = offset(document, diagnostic.line, diagnostic.column);
  const end = diagnostic.end_column ?? diagnostic.column + 1;
  const to = Math.max(from, offset(document, diagnostic.line, end));
  return {
    from,
    to,
    severity: diagnostic.severity,
    source: diagnostic.code,
    message: diagnostic.hint ? `${diagnostic.reason}\n${diagnostic.hint}` : diagnostic.reason,
  };
}

/** From a line and a column in characters, both from 1, to CodeMirror's UTF-16 offset. */
function offset(document: Text, line: number, column: number): number {
  const found = document.line(Math.min(Math.max(1, line), document.lines));
  const before = [...found.text].slice(0, Math.max(0, column - 1)).join('');
  return found.from + before.length;
}
