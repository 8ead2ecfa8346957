/**
 * A server's YAML file: a flat map of settings. Every mistake names file, line and key, and the nearest key that exists:
 * a typo must not silently leave a default in place.
 */

import { CollectiveError } from '@collective/base/errors';
import { closest, distance } from 'fastest-levenshtein';
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';

export interface YamlValue {
  /** As it would be typed as a flag; lists joined by commas. */
  readonly text: string;
  readonly line: number;
}

const FILE_CHARACTERS_MAX = 1_000_000;

export function parseYamlSettings(content: string, name: string, known: readonly string[]): Map<string, YamlValue> {
  const lines = new LineCounter();
  const wrong = (offset: number | undefined, what: string): CollectiveError => {
    const { line, col } = lines.linePos(offset ?? 0);
    return new CollectiveError(
      'config_invalid',
      `Read ${name}, line ${Math.max(1, line)}, column ${Math.max(1, col)}: ${what}`,
      {
        details: { line: Math.max(1, line) },
      },
    );
  };
  if (content.length > FILE_CHARACTERS_MAX) throw wrong(0, `it has more than ${FILE_CHARACTERS_MAX} characters`);
  const document = parseDocument(content, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken !== undefined) throw wrong(broken.pos[0], broken.message);
  const root = document.contents;
  if (root === null) return new Map();
  if (!isMap(root)) throw wrong(root.range?.[0], `it must be lines 'key: value' with the keys ${known.join(', ')}`);

  const values = new Map<string, YamlValue>();
  for (const { key, value } of root.items) {
    const keyNode = key as Node;
    const keyText = isScalar(keyNode) ? String(keyNode.value) : '?';
    const offset = keyNode.range?.[0];
    const settingKey = known.find((one) => one === keyText);
    if (settingKey === undefined) throw wrong(offset, unknownKey(keyText, known));
    values.set(settingKey, { text: valueText(value, settingKey, wrong), line: lines.linePos(offset ?? 0).line });
  }
  return values;
}

/** `the key 'capcity' is not known; did you mean 'capacity'?` */
export function unknownKey(key: string, known: readonly string[]): string {
  const camel = key.replace(/[-_](.)/g, (_, letter: string) => letter.toUpperCase());
  const nearest = known.includes(camel) ? camel : closest(key, [...known]);
  const close =
    known.includes(camel) || distance(key.toLowerCase(), nearest.toLowerCase()) <= Math.max(2, key.length / 3);
  return close
    ? `the key '${key}' is not known; did you mean '${nearest}'?`
    : `the key '${key}' is not known; the keys are ${known.join(', ')}`;
}

function valueText(
  value: unknown,
  key: string,
  wrong: (offset: number | undefined, what: string) => CollectiveError,
): string {
  if (isScalar(value)) {
    if (value.value === null) throw wrong(value.range?.[0], `key '${key}' has no value`);
    // 500GB is a text, 500 a number, 1_000 and 0x10 what YAML says: the source spelling is what a flag would have.
    return typeof value.value === 'boolean' ? String(value.value) : String(value.source ?? value.value);
  }
  if (isSeq(value)) return value.items.map((item) => valueText(item, key, wrong)).join(',');
  const offset =
    value !== null && typeof value === 'object' && 'range' in value ? (value as Node).range?.[0] : undefined;
  throw wrong(offset, `key '${key}' must be a plain value`);
}
