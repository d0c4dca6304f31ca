import * as RadixMenu from '@radix-ui/react-dropdown-menu';
import type { ReactNode } from 'react';

interface MenuProps {
  trigger: ReactNode;
  items: { label: string; icon?: ReactNode; onSelect: () => void; testId?: string }[];
  side?: 'top' | 'bottom';
}

export function Menu({ trigger, items, side = 'bottom' }: MenuProps) {
  return (
    // A modal menu would lock scrolling with a <style> element; see Dialog.
    <RadixMenu.Root modal={false}>
      <RadixMenu.Trigger asChild>{trigger}</RadixMenu.Trigger>
      <RadixMenu.Portal>
        <RadixMenu.Content
          side={side}
          align="start"
          sideOffset={4}
          className="z-50 min-w-44 rounded-md border bg-raised p-1 text-sm text-ink pop-shadow"
        >
          {items.map((item) => (
            <RadixMenu.Item
              key={item.label}
              data-testid={item.testId}
              onSelect={item.onSelect}
              className="flex h-8 cursor-pointer items-center gap-2 rounded px-2 outline-none data-[highlighted]:bg-accent-soft data-[highlighted]:text-ink [&_svg]:size-4 [&_svg]:text-muted"
            >
              {item.icon}
              {item.label}
            </RadixMenu.Item>
          ))}
        </RadixMenu.Content>
      </RadixMenu.Portal>
    </RadixMenu.Root>
  );
}
