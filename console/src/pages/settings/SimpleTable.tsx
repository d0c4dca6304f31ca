import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import { cx } from '../../design/cx';

interface SimpleTableProps {
  label: string;
  /** An empty one stands over buttons. */
  head: string[];
  rows: { key: string; cells: ReactNode[]; faded?: boolean }[];
}

/** A short table without sorting or paging. */
export function SimpleTable({ label, head, rows }: SimpleTableProps) {
  const { t } = useTranslation();
  return (
    <div className="overflow-x-auto">
      <table aria-label={label} className="w-full text-left">
        <thead>
          <tr className="border-b text-xs text-muted">
            {head.map((cell, index) => (
              <th key={index} scope="col" className="h-8 px-4 font-medium whitespace-nowrap">
                {cell || <span className="sr-only">{t('common.actions')}</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.key} className={cx('h-10 border-b last:border-b-0', row.faded && 'text-faint')}>
              {row.cells.map((cell, index) => (
                <td key={index} className="px-4 py-1.5">
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
