/**
 * One definition for what the compiler and the apiserver hold: a schema carries its JSON form and, as `ValueOf`, its type. The
 * arguments that Kubernetes would miss only later are required here: each field has a description, each string, list and
 * map a bound (an unbounded one makes the apiserver refuse the cost of any CEL rule over it), each rule a reason.
 *
 * Only generators and tests run this. The operator imports types, which are gone when it runs.
 */

/** A structural schema, as far as CRDs may say it (apiextensions.k8s.io/v1). */
export interface JsonSchema {
  type?: string;
  description?: string;
  format?: string;
  default?: unknown;
  enum?: readonly string[];
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  anyOf?: readonly JsonSchema[];
  properties?: Readonly<Record<string, JsonSchema>>;
  required?: readonly string[];
  items?: JsonSchema;
  additionalProperties?: JsonSchema;
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  'x-kubernetes-list-map-keys'?: readonly string[];
  'x-kubernetes-map-type'?: 'atomic' | 'granular';
  'x-kubernetes-int-or-string'?: true;
  'x-kubernetes-preserve-unknown-fields'?: true;
  'x-kubernetes-validations'?: readonly Rule[];
}

/** A rule in CEL over `self`; with `oldSelf` it judges changes only. */
export interface Rule {
  readonly rule: string;
  /** For people: what must be. Follows the path of the field. */
  readonly message: string;
  readonly reason: 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueRequired' | 'FieldValueDuplicate';
  /** Of the field at fault, relative to where the rule stands, when it is not that place itself. */
  readonly fieldPath?: string;
}

declare const VALUE: unique symbol;

export interface Schema<Value> {
  readonly json: JsonSchema;
  readonly [VALUE]?: Value;
}

export interface OptionalSchema<Value> extends Schema<Value> {
  readonly isOptional: true;
}

export type ValueOf<Each> = Each extends Schema<infer Value> ? Value : never;

type Fields = Readonly<Record<string, Schema<unknown>>>;

type Flat<Each> = { readonly [Key in keyof Each]: Each[Key] };
type ObjectOf<Each extends Fields> = Flat<
  {
    readonly [Key in keyof Each as Each[Key] extends OptionalSchema<unknown> ? never : Key]: ValueOf<Each[Key]>;
  } & {
    readonly [Key in keyof Each as Each[Key] extends OptionalSchema<unknown> ? Key : never]?: ValueOf<Each[Key]>;
  }
>;

interface Ruled {
  readonly rules?: readonly Rule[];
}

export function optional<Value>({ json }: Schema<Value>): OptionalSchema<Value> {
  return { json, isOptional: true };
}

/** The same with other words: what a type means differs by where it stands. */
export function described<Value>({ json }: Schema<Value>, description: string): Schema<Value> {
  return { json: { ...json, description } };
}

export function string(
  description: string,
  options: Ruled & {
    readonly maxLength: number;
    readonly minLength?: number;
    readonly pattern?: string;
    readonly format?: 'date-time';
    readonly default?: string;
  },
): Schema<string> {
  const { rules, ...bounds } = options;
  return { json: { type: 'string', description, ...bounds, ...validations(rules) } };
}

/** One of a few words. A default is for words whose meaning will never change (see docs/decisions). */
export function oneOf<const Word extends string>(
  description: string,
  words: readonly Word[],
  options: { readonly default?: NoInfer<Word> } = {},
): Schema<Word> {
  return { json: { type: 'string', description, enum: words, ...options } };
}

export function integer(
  description: string,
  { rules, ...bounds }: Ruled & { readonly minimum: number; readonly maximum?: number },
): Schema<number> {
  const format = bounds.maximum === undefined ? 'int64' : 'int32';
  return { json: { type: 'integer', description, format, ...bounds, ...validations(rules) } };
}

export function boolean(description: string): Schema<boolean> {
  return { json: { type: 'boolean', description } };
}

export function object<const Each extends Fields>(
  description: string,
  fields: Each,
  { rules, isAtomic = false }: Ruled & { readonly isAtomic?: boolean } = {},
): Schema<ObjectOf<Each>> {
  const required = Object.keys(fields).filter((name) => !(fields[name] !== undefined && 'isOptional' in fields[name]));
  return {
    json: {
      type: 'object',
      description,
      properties: Object.fromEntries(Object.entries(fields).map(([name, { json }]) => [name, json])),
      ...(required.length > 0 ? { required } : {}),
      ...(isAtomic ? { 'x-kubernetes-map-type': 'atomic' as const } : {}),
      ...validations(rules),
    },
  };
}

/** Any fields: what Kubernetes itself judges where it is put. */
export function opaque(description: string): Schema<Readonly<Record<string, unknown>>> {
  return { json: { type: 'object', description, 'x-kubernetes-preserve-unknown-fields': true } };
}

export function mapOf<Value>(
  description: string,
  values: Schema<Value>,
  { maxProperties, rules }: Ruled & { readonly maxProperties: number },
): Schema<Readonly<Record<string, Value>>> {
  return {
    json: { type: 'object', description, additionalProperties: values.json, maxProperties, ...validations(rules) },
  };
}

interface ListBounds extends Ruled {
  readonly maxItems: number;
  readonly minItems?: number;
}

/** Items are told apart by one of their fields: two managers may each own some of them. */
export function listMap<Value>(
  description: string,
  items: Schema<Value>,
  { key, ...bounds }: ListBounds & { readonly key: keyof Value & string },
): Schema<readonly Value[]> {
  return list(description, items, bounds, { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [key] });
}

/** Whoever sets it sets all of it. */
export function atomicList<Value>(
  description: string,
  items: Schema<Value>,
  bounds: ListBounds,
): Schema<readonly Value[]> {
  return list(description, items, bounds, { 'x-kubernetes-list-type': 'atomic' });
}

export function setOf<Value extends string>(
  description: string,
  items: Schema<Value>,
  bounds: ListBounds,
): Schema<readonly Value[]> {
  return list(description, items, bounds, { 'x-kubernetes-list-type': 'set' });
}

function list<Value>(
  description: string,
  items: Schema<Value>,
  { rules, ...bounds }: ListBounds,
  kind: JsonSchema,
): Schema<readonly Value[]> {
  return { json: { type: 'array', description, items: items.json, ...bounds, ...kind, ...validations(rules) } };
}

function validations(rules: readonly Rule[] | undefined): JsonSchema {
  return rules === undefined || rules.length === 0 ? {} : { 'x-kubernetes-validations': rules };
}
