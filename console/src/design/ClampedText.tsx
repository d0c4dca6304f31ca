import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import { RawText } from './RawText';

const LONG = 240;
const MANY_LINES = 4;

/** Text from a host or a log; if it is long, two lines of it until it is asked for. */
export function ClampedText({ text, className }: { text: string; className?: string }) {
  const { t } = useTranslation();
  const [whole, setWhole] = useState(false);
  const long = text.length > LONG || text.split('\n', MANY_LINES).length === MANY_LINES;
  if (!long || whole) return <RawText text={text} className={className} />;
  return (
    <>
      <span className="line-clamp-2">
        <RawText text={text} className={className} />
      </span>
      <button type="button" onClick={() => setWhole(true)} className="text-xs text-accent hover:underline">
        {t('common.showWhole')}
      </button>
    </>
  );
}
