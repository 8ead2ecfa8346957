/** What an apiserver says beside its answers (deprecated APIs, unknown fields): logged once each, not with every call. */
import type { Log } from '@collective/base/log';

const REMEMBERED_MAX = 256;

export class ServerWarnings {
  readonly #log: Log;
  readonly #heard = new Set<string>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** The header `Warning`: `299 - "text"`, several of them joined by commas (RFC 7234, 5.5). */
  hear(what: string, header: string | undefined): void {
    for (const [, quoted = ''] of (header ?? '').matchAll(/\b\d{3} \S+ "((?:[^"\\]|\\.)*)"/g)) {
      const warning = quoted.replaceAll(/\\(.)/g, '$1');
      if (this.#heard.has(warning)) continue;
      if (this.#heard.size >= REMEMBERED_MAX) this.#heard.clear();
      this.#heard.add(warning);
      this.#log.warn({ what, warning }, 'the apiserver warns');
    }
  }
}
