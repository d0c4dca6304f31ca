import { Check, Copy } from 'lucide-react';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { Button, IconButton } from './Button';

export function CopyButton({ text, label, small }: { text: string; label?: string; small?: boolean }) {
  const { t } = useTranslation();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => void navigator.clipboard.writeText(text).then(() => setCopied(true));
  const icon = copied ? <Check className="text-good" /> : <Copy />;
  const words = copied ? t('common.copied') : (label ?? t('common.copy'));
  if (small) {
    return (
      <IconButton label={words} onClick={copy} className="size-6">
        {icon}
      </IconButton>
    );
  }
  return (
    <Button size="sm" icon={icon} onClick={copy}>
      {words}
    </Button>
  );
}
