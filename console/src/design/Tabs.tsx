import * as RadixTabs from '@radix-ui/react-tabs';
import type { ReactNode } from 'react';

interface TabsProps<Id extends string> {
  value: Id;
  onChange: (value: Id) => void;
  label: string;
  tabs: { id: Id; label: ReactNode; content: ReactNode; testId?: string }[];
}

/** Only the chosen tab's content is mounted, so that hidden tabs fetch nothing. */
export function Tabs<Id extends string>({ value, onChange, label, tabs }: TabsProps<Id>) {
  return (
    <RadixTabs.Root value={value} onValueChange={(next) => onChange(next as Id)} className="flex min-w-0 flex-col gap-4">
      <RadixTabs.List aria-label={label} className="flex gap-1 overflow-x-auto border-b">
        {tabs.map((tab) => (
          <RadixTabs.Trigger
            key={tab.id}
            value={tab.id}
            data-testid={tab.testId}
            className="-mb-px h-9 border-b-2 border-transparent px-3 text-sm whitespace-nowrap text-muted hover:text-ink data-[state=active]:border-accent data-[state=active]:font-medium data-[state=active]:text-ink"
          >
            {tab.label}
          </RadixTabs.Trigger>
        ))}
      </RadixTabs.List>
      {tabs.map((tab) => (
        <RadixTabs.Content key={tab.id} value={tab.id} className="min-w-0">
          {tab.content}
        </RadixTabs.Content>
      ))}
    </RadixTabs.Root>
  );
}
