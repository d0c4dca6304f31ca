import { type ColumnDef, type Row, flexRender, getCoreRowModel, getSortedRowModel, useReactTable } from '@tanstack/react-table';
import { useVirtualizer } from '@tanstack/react-virtual';
import { ArrowDown, ArrowUp } from 'lucide-react';
import { type KeyboardEvent, type ReactNode, useEffect, useMemo, useRef } from 'react';

import { cx } from './cx';
import { useMediaQuery } from './use-media-query';

declare module '@tanstack/react-table' {
  interface ColumnMeta<TData, TValue> {
    /** Width in pixels, or none to share what is left. */
    width?: number;
    align?: 'right';
    /** The narrowest windows that have room for the column; all, if absent. */
    from?: 'medium' | 'wide' | 'very-wide';
  }
}

const ROW_HEIGHT = 36;
const TALL_ROW_HEIGHT = 50;
const FETCH_WHEN_ROWS_LEFT = 20;

interface DataTableProps<T> {
  label: string;
  // Each column has its own type of value; `any` is how the library says that.
  columns: ColumnDef<T, any>[];
  rows: T[];
  rowId: (row: T) => string;
  onOpen?: (row: T) => void;
  rowTestId?: string;
  rowClass?: (row: T) => string | undefined;
  /** Replaces a row's cells by one that spans all columns (gaps). */
  wholeRow?: (row: T) => ReactNode | undefined;
  /** The row that is open or marked. */
  activeId?: string;
  onReachEnd?: () => void;
  footer?: ReactNode;
  sortable?: boolean;
  /** Rows of two lines. */
  tall?: boolean;
  /** At most so high; then the table scrolls by itself. `fill` takes the parent's height. */
  height?: 'fill' | 'natural';
}

/** The one table: sticky head, windowed rows, arrow keys or j and k between rows, Enter opens. */
export function DataTable<T>(props: DataTableProps<T>) {
  const { label, columns, rows, rowId, onReachEnd, footer, sortable, tall, height = 'natural' } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const medium = useMediaQuery('(min-width: 48rem)');
  const wide = useMediaQuery('(min-width: 64rem)');
  const veryWide = useMediaQuery('(min-width: 96rem)');
  const fitting = useMemo(() => {
    const fits = { medium, wide, 'very-wide': veryWide };
    return columns.filter(({ meta }) => !meta?.from || fits[meta.from]);
  }, [columns, medium, wide, veryWide]);
  const table = useReactTable({
    data: rows,
    columns: fitting,
    getRowId: rowId,
    enableSorting: sortable ?? false,
    getCoreRowModel: getCoreRowModel(),
    getSortedRowModel: getSortedRowModel(),
  });
  const shown = table.getRowModel().rows;
  const virtualizer = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => (tall ? TALL_ROW_HEIGHT : ROW_HEIGHT),
    overscan: 12,
    getItemKey: (index) => shown[index]?.id ?? index,
  });
  const windowed = height === 'fill';
  const items = windowed ? virtualizer.getVirtualItems() : null;
  const last = items?.at(-1)?.index ?? -1;
  useEffect(() => {
    if (onReachEnd && last >= 0 && last >= shown.length - FETCH_WHEN_ROWS_LEFT) onReachEnd();
  }, [last, shown.length, onReachEnd]);

  const before = items?.[0]?.start ?? 0;
  const after = items?.length ? virtualizer.getTotalSize() - (items.at(-1)?.end ?? 0) : 0;
  const visible = items ? items.map((item) => shown[item.index]).filter((row) => row !== undefined) : shown;

  return (
    <div
      ref={scroller}
      className={cx('overflow-auto', windowed && 'h-[70vh] md:h-auto md:min-h-0 md:flex-1')}
      onKeyDown={(event) => moveBetweenRows(event)}
    >
      <table aria-label={label} aria-rowcount={shown.length} className="w-full table-fixed border-collapse text-left">
        <colgroup>
          {table.getVisibleLeafColumns().map((column) => {
            return <col key={column.id} width={column.columnDef.meta?.width} />;
          })}
        </colgroup>
        <thead className="sticky top-0 z-10 bg-surface">
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id}>
              {group.headers.map((header) => {
                const meta = header.column.columnDef.meta;
                const sorted = header.column.getIsSorted();
                const title = flexRender(header.column.columnDef.header, header.getContext());
                return (
                  <th
                    key={header.id}
                    scope="col"
                    aria-sort={sorted === 'asc' ? 'ascending' : sorted === 'desc' ? 'descending' : undefined}
                    className={cx(
                      'h-8 truncate border-b px-3 text-xs font-medium text-muted',
                      meta?.align === 'right' && 'text-right',
                    )}
                  >
                    {header.column.getCanSort() ? (
                      <button
                        type="button"
                        onClick={header.column.getToggleSortingHandler()}
                        className="inline-flex items-center gap-1 hover:text-ink [&_svg]:size-3"
                      >
                        {title}
                        {sorted === 'asc' && <ArrowUp aria-hidden="true" />}
                        {sorted === 'desc' && <ArrowDown aria-hidden="true" />}
                      </button>
                    ) : (
                      title
                    )}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {before > 0 && <Spacer height={before} columns={fitting.length} />}
          {visible.map((row, index) => (
            <TableRow key={row.id} row={row} first={index === 0} {...props} />
          ))}
          {after > 0 && <Spacer height={after} columns={fitting.length} />}
        </tbody>
      </table>
      {footer}
    </div>
  );
}

function TableRow<T>({ row, first, ...props }: { row: Row<T>; first: boolean } & DataTableProps<T>) {
  const { onOpen, rowTestId, rowClass, wholeRow, activeId, tall } = props;
  const active = activeId === row.id;
  const whole = wholeRow?.(row.original);
  return (
    <tr
      data-row
      data-testid={rowTestId}
      data-row-id={row.id}
      tabIndex={onOpen ? (first ? 0 : -1) : undefined}
      aria-selected={active || undefined}
      onClick={(event) => {
        // A click that ends a text selection, or hits a control, opens nothing.
        const target = event.target as HTMLElement;
        if (target.closest('a,button,input,select,label') || window.getSelection()?.toString()) return;
        onOpen?.(row.original);
      }}
      onKeyDown={(event) => {
        if (event.key === 'Enter' && event.target === event.currentTarget) onOpen?.(row.original);
      }}
      className={cx(
        tall ? 'h-12.5' : 'h-9',
        'border-b border-line',
        onOpen && 'cursor-pointer hover:bg-sunken focus-visible:-outline-offset-2',
        active && 'bg-accent-soft',
        rowClass?.(row.original),
      )}
    >
      {whole !== undefined ? (
        <td colSpan={row.getVisibleCells().length} className="px-3 py-1">
          {whole}
        </td>
      ) : (
        row.getVisibleCells().map((cell) => {
          const meta = cell.column.columnDef.meta;
          return (
            <td
              key={cell.id}
              className={cx(
                'overflow-hidden px-3 py-1 text-ellipsis whitespace-nowrap',
                meta?.align === 'right' && 'text-right tabular-nums',
              )}
            >
              {flexRender(cell.column.columnDef.cell, cell.getContext())}
            </td>
          );
        })
      )}
    </tr>
  );
}

function Spacer({ height, columns }: { height: number; columns: number }) {
  return (
    <tr aria-hidden="true">
      <td colSpan={columns} height={height} className="p-0" />
    </tr>
  );
}

function moveBetweenRows(event: KeyboardEvent<HTMLDivElement>) {
  const target = event.target as HTMLElement;
  if (!target.matches('tr[data-row]') || event.ctrlKey || event.metaKey || event.altKey) return;
  const down = event.key === 'ArrowDown' || event.key === 'j';
  const up = event.key === 'ArrowUp' || event.key === 'k';
  if (!down && !up) return;
  let next = down ? target.nextElementSibling : target.previousElementSibling;
  if (next && !next.matches('tr[data-row]')) next = null;
  if (next) {
    event.preventDefault();
    (next as HTMLElement).focus();
    next.scrollIntoView({ block: 'nearest' });
  }
}
