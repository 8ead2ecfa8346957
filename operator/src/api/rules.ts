/**
 * Rules that several fields share. What an absent field means is said by cases and not by `orValue`, of whose answer the
 * apiserver knows no bound, so that it would refuse the cost.
 */
import { DEFAULTS } from './defaults.ts';
import { DURATION } from './scalars.ts';
import type { Rule } from './schema.ts';

export const GROWS: Rule = {
  rule: `!isQuantity(self) || !isQuantity(oldSelf) || ${atLeast('self', 'oldSelf')}`,
  message: 'only grows: volumes cannot shrink',
  reason: 'FieldValueForbidden',
};

/**
 * For a volume of which the object may say nothing: said or not, it never shrinks and never moves. `path` leads to the volume
 * from where the rules stand.
 */
export function volumeRules(path: readonly string[], defaultSize: string): readonly Rule[] {
  const [size, storageClass] = [optionalField([...path, 'size']), optionalField([...path, 'storageClass'])];
  const [self, old] = [size.of('self'), size.of('oldSelf')];
  const fallback = `"${defaultSize}"`;
  const grows = (one: string, other: string, judged: string): string =>
    `(!isQuantity(${judged}) || ${atLeast(one, other)})`;
  return [
    {
      rule: byCases(
        size,
        `isQuantity(${old}) && ${grows(self, old, self)}`,
        grows(self, fallback, self),
        grows(fallback, old, old),
      ),
      message: `only grows: volumes cannot shrink (${defaultSize} unless said)`,
      reason: 'FieldValueForbidden',
      fieldPath: `.${path.join('.')}`,
    },
    {
      rule: byCases(storageClass, `${storageClass.of('self')} == ${storageClass.of('oldSelf')}`, 'false', 'false'),
      message: 'the StorageClass of a volume never changes',
      reason: 'FieldValueForbidden',
      fieldPath: `.${path.join('.')}`,
    },
  ];
}

/** That a duration of `spec.ca` is shorter than the authority's; each may be absent, and wrong ones are another rule's. */
export function shorterThanAuthority(field: string, fallback: string | undefined): Rule {
  const [short, long] = [`self.${field}`, 'self.duration'];
  const less = (one: string, other: string, ...judged: readonly string[]): string =>
    [...judged.map((text) => `!${text}.matches("${DURATION}")`), `duration(${one}) < duration(${other})`].join(' || ');
  const absent = fallback === undefined ? 'true' : `!has(${long}) || ${less(`"${fallback}"`, long, long)}`;
  return {
    rule: `has(${short}) ? (has(${long}) ? (${less(short, long, short, long)}) : (${less(short, `"${DEFAULTS.caDuration}"`, short)})) : (${absent})`,
    message: `must be shorter than the duration of the authority (${fallback === undefined ? '' : `${fallback} and `}${DEFAULTS.caDuration} unless said)`,
    reason: 'FieldValueInvalid',
    fieldPath: `.${field}`,
  };
}

interface OptionalField {
  readonly of: (object: string) => string;
  readonly isIn: (object: string) => string;
}

/** A field below others, each of which may be absent. */
function optionalField(path: readonly string[]): OptionalField {
  const of = (object: string): string => [object, ...path].join('.');
  const isIn = (object: string): string =>
    path.map((_, depth) => `has(${[object, ...path.slice(0, depth + 1)].join('.')})`).join(' && ');
  return { of, isIn };
}

/** One condition for a field that is there now and before, only now, or only before. */
function byCases({ isIn }: OptionalField, both: string, onlyNow: string, onlyBefore: string): string {
  return `(${isIn('self')}) ? ((${isIn('oldSelf')}) ? (${both}) : ${onlyNow}) : (!(${isIn('oldSelf')}) || ${onlyBefore})`;
}

function atLeast(one: string, other: string): string {
  return `quantity(${one}).compareTo(quantity(${other})) >= 0`;
}
