import { describe, expect, test } from 'vitest';

import { bySource } from '../src/pages/hosts/sources';

describe('the sources of a host', () => {
  test('types of one source stand together, and those without one apart with the reason', () => {
    const lines = [
      'process_start=ebpf (exec)',
      'process_exit=ebpf (exec)',
      'dns_query=none: access denied (etw)',
      'dns_query=event_log (a=b)',
      'usb_device=none',
    ];
    expect(bySource(lines)).toEqual({
      running: [
        { text: 'ebpf (exec)', types: ['process_start', 'process_exit'] },
        { text: 'event_log (a=b)', types: ['dns_query'] },
      ],
      missing: [
        { text: 'access denied (etw)', types: ['dns_query'] },
        { text: '', types: ['usb_device'] },
      ],
    });
  });

  test('a source that only begins like `none` is one', () => {
    expect(bySource(['gap=nonesuch']).running).toEqual([{ text: 'nonesuch', types: ['gap'] }]);
    expect(bySource([])).toEqual({ running: [], missing: [] });
  });
});
