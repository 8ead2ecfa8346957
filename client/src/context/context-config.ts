/**
 * The text form of contexts, shaped as kubeconfig: members (where and who), users (a folder of certificates), contexts
 * (a pair of both) and the current one. Pure: text in, value out; a mistake names its line and key.
 */
import { CollectiveError } from '@collective/base/errors';
import { isMap, isScalar, LineCounter, parseDocument, stringify, YAMLMap } from 'yaml';

export interface ContextConfig {
  readonly currentContext?: string;
  readonly members: readonly MemberEntry[];
  readonly users: readonly UserEntry[];
  readonly contexts: readonly ContextEntry[];
}

export interface MemberEntry {
  readonly name: string;
  /** Host and port. */
  readonly coordinator: string;
  readonly trustDomain: string;
  readonly via?: ContextVia;
}

/**
 * The member cannot be dialled from here: a program that knows this way leads to it. What the settings mean is known to
 * that program alone.
 */
export interface ContextVia {
  readonly kind: string;
  readonly settings: Readonly<Record<string, string>>;
}

export interface UserEntry {
  readonly name: string;
  /** Folder with `tls.crt`, `tls.key`, `trust.pem`. */
  readonly credentials: string;
}

export interface ContextEntry {
  readonly name: string;
  readonly member: string;
  readonly user: string;
  /** Which address of the nodes to use (D10); default 'external'. */
  readonly listener?: string;
}

export const EMPTY_CONFIG: ContextConfig = { members: [], users: [], contexts: [] };

const KIND = 'CollectiveConfig';
const CONFIG_VERSION = 1;
const TOP_KEYS = ['kind', 'version', 'current-context', 'members', 'users', 'contexts'];

export function parseContextConfig(text: string, source: string): ContextConfig {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const wrong = (offset: number | undefined, what: string): CollectiveError => {
    const line = offset === undefined ? 1 : lines.linePos(offset).line;
    return new CollectiveError('config_invalid', `Read ${source}, line ${line}: ${what}`);
  };
  const broken = document.errors[0];
  if (broken !== undefined) throw wrong(broken.pos[0], broken.message);
  const root = document.contents;
  if (root === null) return EMPTY_CONFIG;
  if (!isMap(root)) throw wrong(root.range?.[0], 'a list of keys such as `contexts:` is needed here');

  const reader = new MapReader(root, wrong);
  reader.allowOnly(TOP_KEYS);
  const version = reader.number('version') ?? CONFIG_VERSION;
  if (version > CONFIG_VERSION)
    throw new CollectiveError(
      'version_too_new',
      `Read ${source}: it has version ${version}, this program knows ${CONFIG_VERSION}`,
    );
  return {
    currentContext: reader.text('current-context'),
    members: reader.list('members', (entry) => {
      entry.allowOnly(['name', 'coordinator', 'trust-domain', 'via']);
      return {
        name: entry.need('name'),
        coordinator: entry.need('coordinator'),
        trustDomain: entry.need('trust-domain'),
        via: entry.via('via'),
      };
    }),
    users: reader.list('users', (entry) => {
      entry.allowOnly(['name', 'credentials']);
      return { name: entry.need('name'), credentials: entry.need('credentials') };
    }),
    contexts: reader.list('contexts', (entry) => {
      entry.allowOnly(['name', 'member', 'user', 'listener']);
      return {
        name: entry.need('name'),
        member: entry.need('member'),
        user: entry.need('user'),
        listener: entry.text('listener'),
      };
    }),
  };
}

export function formatContextConfig(config: ContextConfig): string {
  return stringify({
    kind: KIND,
    version: CONFIG_VERSION,
    ...(config.currentContext === undefined ? {} : { 'current-context': config.currentContext }),
    members: config.members.map(({ name, coordinator, trustDomain, via }) => ({
      name,
      coordinator,
      'trust-domain': trustDomain,
      ...(via === undefined ? {} : { via: { [via.kind]: via.settings } }),
    })),
    users: config.users.map(({ name, credentials }) => ({ name, credentials })),
    contexts: config.contexts.map(({ name, member, user, listener }) => ({
      name,
      member,
      user,
      ...(listener === undefined ? {} : { listener }),
    })),
  });
}

/** Takes values out of one YAML map; whatever does not fit is an error with its line. */
class MapReader {
  readonly #map: YAMLMap;
  readonly #wrong: (offset: number | undefined, what: string) => CollectiveError;

  constructor(map: YAMLMap, wrong: (offset: number | undefined, what: string) => CollectiveError) {
    this.#map = map;
    this.#wrong = wrong;
  }

  allowOnly(known: readonly string[]): void {
    for (const { key } of this.#map.items) {
      const name = isScalar(key) ? String(key.value) : '?';
      if (known.includes(name)) continue;
      const at = isScalar(key) ? key.range?.[0] : undefined;
      throw this.#wrong(at, `the key '${name}' is not known; known here: ${known.join(', ')}`);
    }
  }

  text(key: string): string | undefined {
    const node = this.#map.get(key, true);
    if (node === undefined) return undefined;
    if (!isScalar(node) || typeof node.value !== 'string' || node.value === '')
      throw this.#wrong(this.#offset(node), `'${key}' must be a text that is not empty`);
    return node.value;
  }

  number(key: string): number | undefined {
    const node = this.#map.get(key, true);
    if (node === undefined) return undefined;
    if (!isScalar(node) || typeof node.value !== 'number')
      throw this.#wrong(this.#offset(node), `'${key}' must be a number`);
    return node.value;
  }

  need(key: string): string {
    const value = this.text(key);
    if (value === undefined) throw this.#wrong(this.#map.range?.[0], `the key '${key}' is missing`);
    return value;
  }

  list<T extends { readonly name: string }>(key: string, read: (entry: MapReader) => T): T[] {
    const node: unknown = this.#map.get(key, true);
    if (node === undefined || (isScalar(node) && node.value === null)) return [];
    const items: unknown = typeof node === 'object' && node !== null && 'items' in node ? node.items : undefined;
    if (!Array.isArray(items) || isMap(node)) throw this.#wrong(this.#offset(node), `'${key}' must be a list`);
    const names = new Set<string>();
    return items.map((item: unknown) => {
      if (!(item instanceof YAMLMap))
        throw this.#wrong(this.#offset(item), `'${key}' must be a list of entries with 'name'`);
      const value = read(new MapReader(item, this.#wrong));
      if (names.has(value.name)) throw this.#wrong(item.range?.[0], `'${value.name}' is twice in '${key}'`);
      names.add(value.name);
      return value;
    });
  }

  /** `via: { kubernetes: { member: alice } }`: one way, with texts. */
  via(key: string): ContextVia | undefined {
    const node: unknown = this.#map.get(key, true);
    if (node === undefined) return undefined;
    const [way, ...more] = node instanceof YAMLMap ? node.items : [];
    const settings: unknown = way?.value;
    if (way === undefined || more.length > 0 || !isScalar(way.key) || !(settings instanceof YAMLMap))
      throw this.#wrong(this.#offset(node), `'${key}' must hold one way with its settings, as in 'kubernetes:'`);
    const reader = new MapReader(settings, this.#wrong);
    const names = settings.items.map((item) => (isScalar(item.key) ? String(item.key.value) : '?'));
    return {
      kind: String(way.key.value),
      settings: Object.fromEntries(names.map((name) => [name, reader.need(name)])),
    };
  }

  #offset(node: unknown): number | undefined {
    if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) return undefined;
    const start: unknown = node.range[0];
    return typeof start === 'number' ? start : undefined;
  }
}
