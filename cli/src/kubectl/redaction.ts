/**
 * What must not leave a cluster in a bundle, taken out twice: Secrets are asked for without their contents, and every text
 * that goes into a bundle, whatever it is, is searched for keys, tokens and passwords. Pure.
 */
import type { KubeObject } from './kube-object.ts';

export const REDACTED = '<redacted>';

/** Names of variables and flags whose values are nobody's business. */
const SECRET_NAME = /token|passw|secret|credential|api_?-?key|private/i;
/** Copies of whole objects, contents of Secrets among them. */
const COPIED_OBJECT = 'kubectl.kubernetes.io/last-applied-configuration';

const PATTERNS: readonly (readonly [RegExp, string | ((found: string) => string)])[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, REDACTED],
  // PEM in base64, as in the data of a Secret.
  [/LS0tLS1CRUdJTi[A-Za-z0-9+/=]{20,}/g, (found) => (isPrivateKey(found) ? REDACTED : found)],
  [/\bcol1-[A-Za-z0-9_-]+/g, REDACTED],
  [/\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+/g, REDACTED],
  [/\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${REDACTED}`],
  [/(:\/\/[^/\s:@]+:)[^/\s@]+@/g, `$1${REDACTED}@`],
];

export function redactText(text: string): string {
  return PATTERNS.reduce(
    (now, [pattern, by]) => (typeof by === 'string' ? now.replace(pattern, by) : now.replace(pattern, by)),
    text,
  );
}

/** The object without what it should not tell, and without what nobody reads. */
export function redactObject(object: KubeObject): unknown {
  const { managedFields: _managed, annotations, ...metadata } = object.metadata;
  const kept = Object.entries(annotations ?? {}).filter(([name]) => name !== COPIED_OBJECT);
  const all = {
    ...object,
    metadata: { ...metadata, ...(kept.length > 0 ? { annotations: Object.fromEntries(kept) } : {}) },
  };
  if (object.kind !== 'Secret') return redactValue(all);
  // Even if a server had sent contents after all.
  const { apiVersion, kind, type } = object;
  return { apiVersion, kind, type, metadata: all.metadata };
}

function redactValue(value: unknown): unknown {
  if (typeof value === 'string') return redactText(value);
  if (Array.isArray(value)) return value.map(redactItem);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, redactValue(one)]));
}

/** A variable of a container, or a word of its command line. */
function redactItem(item: unknown): unknown {
  if (typeof item === 'string') return redactText(item.replace(/^(--?[\w-]+)=(.*)$/s, redactFlag));
  if (
    typeof item === 'object' &&
    item !== null &&
    'name' in item &&
    'value' in item &&
    SECRET_NAME.test(String(item.name))
  )
    return { ...item, value: REDACTED };
  return redactValue(item);
}

function redactFlag(whole: string, name: string): string {
  return SECRET_NAME.test(name) ? `${name}=${REDACTED}` : whole;
}

function isPrivateKey(base64: string): boolean {
  return /PRIVATE KEY/.test(Buffer.from(base64, 'base64').toString('latin1'));
}
