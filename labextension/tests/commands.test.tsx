/** Every verb has a command and a form, from its schema alone; a command proposes, and performs nothing. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { CommandRegistry } from '@lumino/commands';
import { Widget } from '@lumino/widgets';
import { cleanup, render, screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import * as React from 'react';
import { afterEach, describe, expect, it } from 'vitest';

import { Refusal } from '../src/client';
import { Actions, addCommands, addVerbs, nameOf } from '../src/commands';
import { Guard } from '../src/components/guard';
import { PlaceProvider } from '../src/components/place';
import { Plot } from '../src/components/plot';
import { Proposal } from '../src/components/proposal';
import { Model } from '../src/model';
import { Command } from '../src/tokens';
import { VerbSchema } from '../src/types';
import { VERBS } from '../src/verbs';
import { events, FakeServer, stand } from './doubles';
import listed from './schemas.json';

/** A cell's text as the notebook shares it. */
function shared(text: string): { getSource: () => string; setSource: (text: string) => void } {
  return {
    getSource: () => text,
    setSource: given => {
      text = given;
    }
  };
}

const schemas = listed as unknown as readonly VerbSchema[];

afterEach(cleanup);

describe('commands', () => {
  it('are there for every verb, described by its schema', async () => {
    const commands = new CommandRegistry();
    const model = new Model(new FakeServer({ verbs: schemas }).client, events());
    const actions = new Actions(model, {} as never);
    const app = { commands } as unknown as JupyterFrontEnd;
    addCommands(app, actions, model);
    addVerbs(app, actions, null);
    expect(schemas.map(each => each.name)).toEqual(VERBS.map(each => each.name));
    for (const { name, summary, arguments: described } of schemas) {
      expect(commands.caption(Command.verb(name))).toBe(summary);
      expect((await commands.describedBy(Command.verb(name))).args).toEqual(described);
    }
    for (const command of [Command.open, Command.page, Command.refresh, Command.trackCell, Command.runHeadless]) {
      expect((await commands.describedBy(command)).args).toMatchObject({ type: 'object' });
    }
  });
});

describe('what is tracked', () => {
  it.each([
    ['train.ipynb', 'train'],
    ['reports/Übung 1.ipynb', 'Übung-1'],
    ['-x y.ipynb', 'x-y'],
    ['実験.ipynb', '実験'],
    ['!!!.ipynb', '']
  ])('of %s is named %s', (notebook, name) => expect(nameOf(notebook)).toBe(name));

  it('is the active cell where that is one of code, and no other', () => {
    const cell = { type: 'code', sharedModel: shared('x = 1') };
    const model = { notebook: 'train.ipynb' } as Model;
    const actions = new Actions(model, {
      notebooks: { currentWidget: { content: { activeCell: { model: cell } } } }
    } as never);
    actions.trackCell();
    expect([cell.sharedModel.getSource(), actions.isCellTracked]).toEqual(['%%mlops track train\nx = 1', true]);
    actions.trackCell();
    expect([cell.sharedModel.getSource(), actions.isCellTracked]).toEqual(['x = 1', false]);
    cell.type = 'markdown';
    actions.trackCell();
    expect([cell.sharedModel.getSource(), actions.isCellCode]).toEqual(['x = 1', false]);
  });
});

describe('a plot', () => {
  it('goes without an error, its node with it', async () => {
    class Renderer extends Widget {
      renderModel = async (): Promise<void> => undefined;
    }
    const made: Renderer[] = [];
    const rendermime = {
      mimeTypes: ['application/vnd.vegalite.v5+json'],
      createRenderer: () => (made.push(new Renderer()), made[made.length - 1]),
      createModel: () => ({})
    } as never;
    const place = await stand({});
    const at = (children?: React.ReactElement): React.ReactElement => (
      <PlaceProvider value={{ ...place, actions: {} as never, rendermime, folder: '', isSeen: true }}>
        <Guard>{children ?? <p>It is gone.</p>}</Guard>
      </PlaceProvider>
    );
    const { rerender } = render(at(<Plot specification={{}} label="auc over its steps" />));
    expect(made[0].isAttached).toBe(true);
    rerender(at());
    await screen.findByText('It is gone.');
    expect(made[0].isDisposed).toBe(true);
  });
});

describe('a proposal', () => {
  it.each(schemas.map(each => [each.name, each] as const))('of %s has a field for each argument', async (_, schema) => {
    const place = await stand({ models: [], endpoints: [], runs: [], jobs: [], params: [] });
    const { container } = render(
      <Proposal schema={schema} args={{}} perform={async () => 'done'} close={() => undefined} />,
      { wrapper: place.Around }
    );
    const fields = Object.keys(schema.arguments.properties).filter(name => name !== 'dry_run');
    const bespoke = container.querySelectorAll('fieldset').length;
    expect(container.querySelectorAll('.nbm-Form label').length + bespoke).toBeGreaterThanOrEqual(fields.length);
    const performs = schema.effect === 'session' ? 0 : 1;
    expect(container.querySelectorAll('button[type=submit]')).toHaveLength(performs);
    expect(screen.getByLabelText('The line that this stands for').textContent).toBe(`%mlops ${schema.name}`);
  });

  it('of a verb that this front end has never seen has a form, a line and an answer', async () => {
    const schema = {
      name: 'brew',
      summary: 'Make tea.',
      effect: 'write',
      group: 'kitchen',
      arguments: {
        title: 'brew',
        type: 'object',
        additionalProperties: false,
        required: ['leaves'],
        properties: {
          leaves: { description: 'Which.', option: null, type: 'string' },
          minutes: { description: 'How long.', option: '--minutes', type: 'integer', default: 3 },
          dry_run: { description: 'Only say.', option: '--dry-run', type: 'boolean', default: false }
        }
      }
    } as unknown as VerbSchema;
    const asked: object[] = [];
    const perform = async (args: object): Promise<object> => {
      asked.push(args);
      return { pot: 'full', cups: [{ name: 'blue', sugar: false }] };
    };
    const place = await stand({});
    render(<Proposal schema={schema} args={{}} perform={perform} close={() => undefined} />, { wrapper: place.Around });
    const user = userEvent.setup();
    expect(screen.getByRole('button', { name: 'Brew' }).hasAttribute('disabled')).toBe(true);
    await user.type(screen.getByLabelText(/^Leaves/), 'oolong');
    expect(screen.getByLabelText('The line that this stands for').textContent).toBe('%mlops brew oolong');
    await user.click(screen.getByRole('button', { name: 'Try without changing anything' }));
    await user.click(await screen.findByRole('button', { name: 'Brew' }));
    expect(asked).toEqual([{ leaves: 'oolong', dry_run: true }, { leaves: 'oolong' }]);
    expect((await screen.findByRole('status')).textContent).toContain('blue');
  });

  it('that is refused says why, with the report, and stays open', async () => {
    const failure = {
      type: 'GateError',
      message: 'delays/3 did not pass its gate.',
      hint: 'Look at the report.',
      exit_code: 4,
      report: { passed: false, checks: [{ name: 'roc_auc', value: 0.5 }] }
    };
    const perform = async (): Promise<never> => {
      throw new Refusal(failure, 422);
    };
    const schema = schemas.find(each => each.name === 'validate') as VerbSchema;
    const place = await stand({ models: [] });
    render(<Proposal schema={schema} args={{ model: 'delays/3' }} perform={perform} close={() => undefined} />, {
      wrapper: place.Around
    });
    await userEvent.setup().click(screen.getByRole('button', { name: 'Validate' }));
    expect((await screen.findByRole('alert')).textContent).toContain('Look at the report.');
    expect(screen.getByText('roc_auc')).toBeTruthy();
    expect(screen.getByRole('button', { name: 'Validate' }).hasAttribute('disabled')).toBe(false);
  });
});
