import 'uplot/dist/uPlot.min.css';

import { useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import uPlot from 'uplot';

import { useTheme } from '../app/theme';
import { formatCompact, formatNumber, formatTime } from '../i18n/format';

export interface TimePoint {
  time: string;
  count: number;
}

interface TimeChartProps {
  points: TimePoint[];
  kind: 'area' | 'bars';
  height: number;
  /** What the chart shows, for screen readers. */
  label: string;
  tone?: 'accent' | 'high';
  /** A span was marked with the mouse. */
  onSelect?: (from: Date, to: Date) => void;
}

/** Counts over time. */
export function TimeChart({ points, kind, height, label, tone = 'accent', onSelect }: TimeChartProps) {
  const { i18n, t } = useTranslation();
  const language = i18n.language;
  const { resolved } = useTheme();
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const select = useRef(onSelect);
  const [hovered, setHovered] = useState<number | null>(null);
  useEffect(() => {
    select.current = onSelect;
  });

  const selectable = onSelect !== undefined;
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    const axis: uPlot.Axis = {
      stroke: colour('faint'),
      font: '11px system-ui, sans-serif',
      grid: { stroke: colour('line'), width: 1 },
      ticks: { show: false },
    };
    const series: uPlot.Series = {
      stroke: colour(tone),
      width: kind === 'area' ? 1.5 : 0,
      fill: kind === 'area' ? `${colour(tone)}26` : colour(tone),
      points: { show: false },
    };
    if (kind === 'bars') series.paths = uPlot.paths.bars?.({ size: [0.8, 40], align: 1 });
    const chart = new uPlot(
      {
        width: element.clientWidth,
        height,
        padding: [8, 18, 0, 0],
        cursor: { y: false, points: { show: kind === 'area' }, drag: { x: selectable, y: false, setScale: false } },
        legend: { show: false },
        scales: {
          x: { range: (self, min, max) => [min, kind === 'bars' ? max + stepOf(self.data[0]) : max] },
          y: { range: (_plot, _min, max) => [0, Math.max(4, max * 1.1)] },
        },
        axes: [
          { ...axis, grid: { show: false }, size: 20, space: 80, values: (_plot, ticks) => ticks.map((tick) => axisTime(tick, language)) },
          {
            ...axis,
            size: 44,
            incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7],
            values: (_plot, ticks) => ticks.map((tick) => formatCompact(tick, language)),
          },
        ],
        series: [{}, series],
        hooks: {
          setCursor: [(self) => setHovered(self.cursor.idx ?? null)],
          setSelect: [
            (self) => {
              if (self.select.width < 2) return;
              const from = self.posToVal(self.select.left, 'x');
              const to = self.posToVal(self.select.left + self.select.width, 'x');
              self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              select.current?.(new Date(from * 1000), new Date(to * 1000));
            },
          ],
        },
      },
      [[], []],
      element,
    );
    plot.current = chart;
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [kind, height, tone, resolved, language, selectable]);

  useEffect(() => {
    plot.current?.setData([points.map((point) => Date.parse(point.time) / 1000), points.map((point) => point.count)]);
  }, [points, kind, height, tone, resolved, language, selectable]);

  const shown = hovered === null ? undefined : points[hovered];
  const total = points.reduce((sum, point) => sum + point.count, 0);
  return (
    <figure className="relative min-w-0">
      <figcaption className="pointer-events-none absolute -top-2 right-1 z-1 rounded bg-surface px-1 text-xs text-muted tabular-nums">
        <span className="sr-only">{label}: </span>
        {shown
          ? `${formatTime(shown.time, 'short', language)} · ${formatNumber(shown.count, language)}`
          : t('common.total', { total: formatNumber(total, language) })}
      </figcaption>
      <div ref={frame} role="img" aria-label={`${label}: ${formatNumber(total, language)}`} />
    </figure>
  );
}

/** A bar begins at its time: the last one needs room behind it. */
function stepOf(times: ArrayLike<number> | undefined): number {
  return times && times.length > 1 ? (times[1] ?? 0) - (times[0] ?? 0) : 0;
}

function axisTime(seconds: number, language: string): string {
  const date = new Date(seconds * 1000);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  return new Intl.DateTimeFormat(
    language,
    midnight ? { month: 'short', day: 'numeric' } : { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
  ).format(date);
}
