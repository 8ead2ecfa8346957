/** A condition as Kubernetes writes it (meta/v1). `lastTransitionTime` changes only with `status`. */

import { timestamp } from './scalars.ts';
import { integer, listMap, object, oneOf, optional, string, type ValueOf } from './schema.ts';

export const conditionSchema = object('One aspect of how the object is, as meta/v1 writes it.', {
  type: string('Which aspect.', {
    maxLength: 316,
    pattern: '^[A-Za-z][A-Za-z0-9]*$',
  }),
  status: oneOf('Whether it holds.', ['True', 'False', 'Unknown']),
  reason: string('Why, as one word in CamelCase, for programs.', {
    minLength: 1,
    maxLength: 1024,
    pattern: '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$',
  }),
  message: string('For people: what is, and what to do.', { maxLength: 32_768 }),
  lastTransitionTime: timestamp('When the status changed last.'),
  observedGeneration: optional(integer('The generation of the spec that this is about.', { minimum: 0 })),
});
export type Condition = ValueOf<typeof conditionSchema>;

export const conditionsSchema = listMap(
  'What holds now. Ready, Reconciling and Stalled are those of kstatus.',
  conditionSchema,
  {
    key: 'type',
    maxItems: 16,
  },
);

export const observedGenerationSchema = integer('The generation of the spec that this status is about.', {
  minimum: 0,
});
