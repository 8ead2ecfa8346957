/** The words that both kinds are made of: quantities, durations, names, hosts. Each refuses with a sentence, not with a pattern. */
import { type Rule, type Schema, string } from './schema.ts';

/** Hours, minutes and seconds as Go writes them; what CEL's duration() reads without an error. */
export const DURATION = '^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$';
const SUBDOMAIN = '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$';
const LABEL_VALUE = '^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$';
/** As apimachinery reads quantities. */
const QUANTITY =
  '^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)))?$';

export function quantity(description: string, rules: readonly Rule[] = []): Schema<string> {
  return string(description, {
    maxLength: 32,
    rules: [
      {
        rule: 'isQuantity(self) && quantity(self).isGreaterThan(quantity("0"))',
        message: 'must be a quantity above 0, for example 500Gi',
        reason: 'FieldValueInvalid',
      },
      ...rules,
    ],
  });
}

/** A quantity in a status: written by the operator alone. */
export function reportedQuantity(description: string): Schema<string> {
  return string(description, { maxLength: 32 });
}

/** In a pod's resources a bare number is a quantity too: `cpu: 2`. */
export function looseQuantity(description: string): Schema<string | number> {
  return {
    json: {
      description,
      anyOf: [{ type: 'integer' }, { type: 'string' }],
      maxLength: 32,
      pattern: QUANTITY,
      'x-kubernetes-int-or-string': true,
    },
  };
}

export function duration(description: string, { atLeast }: { readonly atLeast: string }): Schema<string> {
  return string(description, {
    maxLength: 20,
    minLength: 2,
    rules: [
      {
        rule: `self.matches("${DURATION}") && duration(self) >= duration("${atLeast}")`,
        message: `must be a duration of at least ${atLeast} in hours, minutes and seconds, for example 720h or 1h30m`,
        reason: 'FieldValueInvalid',
      },
    ],
  });
}

/** Name of an object of Kubernetes. */
export function objectName(description: string, maxLength = 253): Schema<string> {
  return string(description, {
    minLength: 1,
    maxLength,
    rules: [
      {
        rule: `self.matches("${SUBDOMAIN}")`,
        message: 'must be the name of an object: a-z, 0-9, "-" and ".", not "-" or "." at its ends',
        reason: 'FieldValueInvalid',
      },
    ],
  });
}

/** DNS labels joined by dots. */
export function domain(description: string, maxLength: number, rules: readonly Rule[]): Schema<string> {
  return string(description, {
    minLength: 1,
    maxLength,
    rules: [
      {
        rule: `self.matches("${SUBDOMAIN}")`,
        message: 'must be DNS labels joined by dots: a-z, 0-9 and "-", not "-" at the ends of a label',
        reason: 'FieldValueInvalid',
      },
      ...rules,
    ],
  });
}

/** Something that can be dialled, without a port. */
export function host(description: string): Schema<string> {
  return string(description, {
    minLength: 1,
    maxLength: 253,
    rules: [
      {
        rule: `self.matches("${SUBDOMAIN}") || isIP(self)`,
        message: 'must be a host name in lower case or an IP address, without a port',
        reason: 'FieldValueInvalid',
      },
    ],
  });
}

export function labelValue(description: string): Schema<string> {
  return string(description, { maxLength: 63, pattern: LABEL_VALUE });
}

export function image(description: string): Schema<string> {
  return string(description, {
    minLength: 1,
    maxLength: 512,
    rules: [
      {
        rule: 'self.matches("^[a-z0-9][^ ]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$") && !self.endsWith(":latest")',
        message: 'must be an image with a tag other than latest, or with a digest',
        reason: 'FieldValueInvalid',
      },
    ],
  });
}

export function timestamp(description: string): Schema<string> {
  return string(description, { maxLength: 64, format: 'date-time' });
}

/** For people; as long as the message of a condition, of which it may be a copy. */
export function sentence(description: string): Schema<string> {
  return string(description, { maxLength: 32_768 });
}
