import { type ComponentProps, Suspense, lazy } from 'react';

import { Skeleton } from '../design/States';

const Chart = lazy(async () => ({ default: (await import('./TimeChart')).TimeChart }));

/** The chart's code is fetched when the first chart is shown. */
export function TimeChart(props: ComponentProps<typeof Chart>) {
  return (
    <div style={{ minHeight: props.height }}>
      <Suspense fallback={<Skeleton className="h-24 w-full" />}>
        <Chart {...props} />
      </Suspense>
    </div>
  );
}
