/** A form made from a verb's JSON schema alone. */

import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Arguments } from '../client';
import { Property, VerbSchema } from '../types';
import { isPlain, plain } from '../words';
import { bespoke } from './bespoke';

const LONGEST = 2000; // characters of a value that can be edited

/** The kinds of fields that a schema's types come down to. */
export type Kind = 'yes or no' | 'choice' | 'number' | 'list' | 'pairs' | 'text';

/** What of a property its field needs. Pure. */
export function kindOf(property: Property): Kind {
  const { type, choices } = told(property);
  if (choices.length > 0) {
    return 'choice';
  }
  switch (type) {
    case 'boolean':
      return 'yes or no';
    case 'integer':
    case 'number':
      return 'number';
    case 'array':
      return 'list';
    case 'object':
      return 'pairs';
    default:
      return 'text';
  }
}

/** Read what a person typed into a field; undefined where nothing is meant. Pure. */
export function parsed(kind: Kind, typed: string): unknown {
  const lines = typed.split('\n').filter(each => each.trim() !== '');
  switch (kind) {
    case 'number':
      return typed.trim() === '' || Number.isNaN(Number(typed)) ? undefined : Number(typed);
    case 'list':
      return lines.length ? lines : undefined;
    case 'pairs':
      return lines.length ? Object.fromEntries(lines.map(pair)) : undefined;
    default:
      return typed === '' ? undefined : typed;
  }
}

/** Spell a value as a person would type it into a field. Pure. */
export function typed(value: unknown): string {
  if (value === undefined || value === null) {
    return '';
  }
  if (Array.isArray(value)) {
    return value.map(String).join('\n');
  }
  if (typeof value === 'object') {
    return Object.entries(value)
      .map(([name, each]) => `${name}=${String(each)}`)
      .join('\n');
  }
  return String(value);
}

/** The names that a verb needs and has not. Pure. */
export function missing(schema: VerbSchema, args: Arguments): string[] {
  return (schema.arguments.required ?? []).filter(name => args[name] === undefined || args[name] === '');
}

interface FormProps {
  readonly schema: VerbSchema;
  readonly args: Arguments;
  readonly onChange: (args: Arguments) => void;
  /** What may be meant by names of a kind, for instance of models. */
  readonly known: (noun: string) => readonly string[];
}

/** Every argument of a verb; what it needs and what is given stands first, the rest is folded away. */
export function Form({ schema, args, onChange, known }: FormProps): JSX.Element {
  const [first] = React.useState(() => new Set([...(schema.arguments.required ?? []), ...Object.keys(args)]));
  const properties = Object.entries(schema.arguments.properties).filter(([name]) => name !== 'dry_run');
  const isFirst = ([name, property]: [string, Property]): boolean =>
    first.has(name) || property.option === null || bespoke(schema.name, name) !== undefined;
  const field = ([name, property]: [string, Property]): JSX.Element => {
    const Bespoke = bespoke(schema.name, name);
    const change = (value: unknown): void => onChange(changed(args, name, value));
    return Bespoke ? (
      <Bespoke key={name} args={args} value={args[name]} onChange={change} />
    ) : (
      <Field
        key={name}
        name={name}
        property={property}
        isRequired={schema.arguments.required?.includes(name) ?? false}
        value={args[name]}
        known={known(property.names ?? '')}
        onChange={change}
      />
    );
  };
  const rest = properties.filter(each => !isFirst(each));
  return (
    <div className="nbm-Form">
      {properties.filter(isFirst).map(field)}
      {rest.length > 0 && (
        <details>
          <summary>Options</summary>
          {rest.map(field)}
        </details>
      )}
    </div>
  );
}

interface FieldProps {
  readonly name: string;
  readonly property: Property;
  readonly isRequired: boolean;
  readonly value: unknown;
  readonly known: readonly string[];
  readonly onChange: (value: unknown) => void;
}

function Field({ name, property, isRequired, value, known, onChange }: FieldProps): JSX.Element {
  const id = React.useId();
  const kind = kindOf(property);
  const [text, setText] = React.useState(() => typed(value));
  const [isKept] = React.useState(() => !isPlain(text, LONGEST)); // what cannot be shown as it is cannot be edited
  const shown = isKept ? plain(text, LONGEST) : text;
  const change = (next: string): void => {
    setText(next);
    onChange(parsed(kind, next));
  };
  const common = { id, required: isRequired, 'aria-describedby': `${id}-help` };
  return (
    <div className="nbm-Field">
      <label htmlFor={id}>
        {words(name)}
        {isRequired && <span aria-hidden="true"> *</span>}
      </label>
      {kind === 'yes or no' ? (
        <input
          {...common}
          type="checkbox"
          checked={Boolean(value ?? property.default)}
          required={false}
          onChange={event => onChange(event.target.checked)}
        />
      ) : kind === 'choice' ? (
        <HTMLSelect
          {...common}
          value={String(value ?? property.default ?? '')}
          onChange={event => change(event.target.value)}
        >
          {['', ...told(property).choices].map(choice => (
            <option key={choice}>{choice}</option>
          ))}
        </HTMLSelect>
      ) : kind === 'list' || kind === 'pairs' ? (
        <textarea
          {...common}
          className="jp-mod-styled"
          rows={2}
          readOnly={isKept}
          value={shown}
          placeholder={kind === 'list' ? 'one a line' : 'name=value, one a line'}
          onChange={event => change(event.target.value)}
        />
      ) : (
        <input
          {...common}
          className="jp-mod-styled"
          type={kind === 'number' ? 'number' : 'text'}
          step="any"
          readOnly={isKept}
          value={shown}
          placeholder={typed(property.default)}
          list={known.length ? `${id}-known` : undefined}
          onChange={event => change(event.target.value)}
        />
      )}
      {known.length > 0 && (
        <datalist id={`${id}-known`}>
          {known.map(each => (
            <option key={each} value={each} />
          ))}
        </datalist>
      )}
      {isKept && <p className="nbm-dim">It is kept as it is: not all of it can be shown.</p>}
      <small id={`${id}-help`}>{property.description?.replace(/``/g, '')}</small>
    </div>
  );
}

/** The type that counts, where a value may be left out or be one of several; and the words to choose between. */
function told(property: Property): { type: string | undefined; choices: readonly string[] } {
  const forms = [property, ...(property.anyOf ?? [])].filter(each => each.type !== 'null');
  const choices = forms.flatMap(each => each.enum ?? []);
  return { type: forms.find(each => each.type)?.type, choices: choices.map(String) };
}

function pair(line: string): [string, string] {
  const [name, ...rest] = line.split('=');
  return [name.trim(), rest.join('=').trim()];
}

function changed(args: Arguments, name: string, value: unknown): Arguments {
  const { [name]: _, ...rest } = args;
  return value === undefined ? rest : { ...rest, [name]: value };
}

function words(name: string): string {
  const spaced = name.replace(/_/g, ' ').trim();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}
