/** A field for each parameter that a notebook or pipeline declares, instead of one field for all of them as pairs. */

import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Parameter } from '../types';
import { plain } from '../words';
import { Answered, useAnswer } from './answer';
import { BespokeProps } from './bespoke';
import { useSettled } from './clock';

const REFERENCE = /^(env|file):/;

/** The values that are given, by name, each as a person types it. */
export type Values = Readonly<Record<string, unknown>>;

/** The parameters of what is to be run, or scheduled. */
export function RunParameters({ args, value, onChange }: BespokeProps): JSX.Element {
  const named = args.what ?? args.target;
  const what = useSettled(typeof named === 'string' ? named.trim() : '');
  return (
    <fieldset className="nbm-Parameters">
      <legend>Parameters</legend>
      {what ? (
        <Declared
          key={what}
          what={what}
          values={(value ?? {}) as Values}
          isWhole={args.file === undefined && args.matrix === undefined}
          onChange={onChange}
        />
      ) : (
        <p className="nbm-dim">They are asked for when it is known what is to be run.</p>
      )}
    </fieldset>
  );
}

interface DeclaredProps {
  readonly what: string;
  readonly values: Values;
  /** Whether no file and no matrix gives values, too. */
  readonly isWhole: boolean;
  readonly onChange: (values: unknown) => void;
}

function Declared({ what, values, isWhole, onChange }: DeclaredProps): JSX.Element {
  const answer = useAnswer('params', { notebook: what }, ['policy']);
  return (
    <Answered answer={answer}>
      {answered => {
        const declared = Array.isArray(answered) ? (answered as readonly Parameter[]) : [];
        return (
          <>
            {declared.length === 0 && <p className="nbm-dim">It declares none.</p>}
            {declared.map(each => (
              <ParameterField
                key={each.name}
                parameter={each}
                isRequired={each.is_required && isWhole}
                value={values[each.name]}
                onChange={given => onChange(changed(values, each.name, given))}
              />
            ))}
            {undeclared(declared, values).map(name => (
              <p key={name} className="nbm-dim">
                It declares no {plain(name, 80)}.{' '}
                <button type="button" className="nbm-Link" onClick={() => onChange(changed(values, name, undefined))}>
                  Leave it out
                </button>
              </p>
            ))}
          </>
        );
      }}
    </Answered>
  );
}

interface ParameterFieldProps {
  readonly parameter: Parameter;
  readonly isRequired: boolean;
  readonly value: unknown;
  readonly onChange: (value: string | undefined) => void;
}

function ParameterField({ parameter, isRequired, value, onChange }: ParameterFieldProps): JSX.Element {
  const id = React.useId();
  const kind = kindOf(parameter);
  const text = value === undefined ? '' : String(value);
  const fallback = spelled(parameter.default);
  const common = { id, required: isRequired, 'aria-describedby': `${id}-help` };
  const change = (event: React.ChangeEvent<HTMLInputElement | HTMLSelectElement>): void =>
    onChange(event.target.value === '' ? undefined : event.target.value);
  const choices = kind === 'choice' ? parameter.choices.map(spelled) : ['true', 'false'];
  const place = choices.includes(text) ? String(choices.indexOf(text)) : '';
  const choose = (event: React.ChangeEvent<HTMLSelectElement>): void =>
    onChange(choices[Number(event.target.value || NaN)]);
  return (
    <div className="nbm-Field">
      <label htmlFor={id}>
        {plain(parameter.name, 80)}
        {isRequired && <span aria-hidden="true"> *</span>} <span className="nbm-dim">{plain(parameter.type, 60)}</span>
      </label>
      {kind === 'yes or no' || kind === 'choice' ? (
        <HTMLSelect {...common} value={place} onChange={choose}>
          <option value="">{isRequired ? 'Choose …' : `${plain(fallback, 60)} (as declared)`}</option>
          {choices.map((choice, n) => (
            <option key={choice} value={n}>
              {plain(choice, 60)}
            </option>
          ))}
        </HTMLSelect>
      ) : (
        <input
          {...common}
          className="jp-mod-styled"
          type={kind === 'number' || kind === 'date' ? kind : 'text'}
          step={parameter.kind === 'whole number' ? 1 : 'any'}
          value={text}
          placeholder={kind === 'secret' && !fallback ? 'env:NAME' : plain(fallback, 80)}
          onChange={change}
        />
      )}
      <small id={`${id}-help`}>
        {plain(parameter.help)}
        {kind === 'secret' && `${parameter.help && '; '}a reference, such as env:NAME or file:PATH, never the secret`}
      </small>
      {kind === 'secret' && text !== '' && !REFERENCE.test(text) && (
        <p role="alert" className="nbm-mod-bad">
          This is no reference: it begins with neither env: nor file:.
        </p>
      )}
    </div>
  );
}

/** The field that fits a parameter. Pure. */
export function kindOf(parameter: Parameter): 'choice' | 'yes or no' | 'number' | 'date' | 'secret' | 'text' {
  if (parameter.choices.length > 0) {
    return 'choice';
  }
  if (parameter.is_secret) {
    return 'secret';
  }
  return FIELDS[parameter.kind] ?? 'text';
}

const FIELDS: Partial<Readonly<Record<Parameter['kind'], 'yes or no' | 'number' | 'date'>>> = {
  'true/false': 'yes or no',
  'whole number': 'number',
  number: 'number',
  date: 'date'
};

/** Spell a default or choice as it would be given. Pure. */
export function spelled(value: unknown): string {
  if (value === null || value === undefined) {
    return '';
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** The names that are given, and not declared. Pure. */
export function undeclared(declared: readonly Parameter[], values: Values): string[] {
  return Object.keys(values).filter(name => !declared.some(each => each.name === name));
}

/** Values with one of them set, or left out; undefined where none is left. Pure. */
export function changed(values: Values, name: string, value: string | undefined): Values | undefined {
  const { [name]: _, ...rest } = values;
  const now = value === undefined ? rest : { ...rest, [name]: value };
  return Object.keys(now).length ? now : undefined;
}
