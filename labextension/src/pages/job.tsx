/** The page of one job: its cells or steps, what it prints, why it failed, and what may be done about it. */

import { PageConfig } from '@jupyterlab/coreutils';
import * as React from 'react';

import { Act } from '../components/act';
import { Answered, useAnswer } from '../components/answer';
import { Card } from '../components/card';
import { Chip } from '../components/chip';
import { useNow } from '../components/clock';
import { duration, JobButtons, Question } from '../components/job';
import { RunLink } from '../components/link';
import { Log } from '../components/log';
import { usePlace } from '../components/place';
import { Table } from '../components/table';
import { CellTiming, Job, JobInFull, JobStep } from '../types';
import { ago, lasted, plain } from '../words';
import { PageProps } from '.';

export function JobPage({ names: [id] }: PageProps): JSX.Element {
  const answer = useAnswer('show', { what: id }, ['ledger', 'jobs']);
  return <Answered answer={answer}>{job => <Shown job={job as JobInFull} />}</Answered>;
}

function Shown({ job }: { readonly job: JobInFull }): JSX.Element {
  const { actions, folder, isSeen } = usePlace();
  const now = useNow(isSeen && job.status === 'RUNNING');
  const took = duration(job, now);
  const file = below(
    job.output,
    PageConfig.getOption('serverRoot'),
    PageConfig.getOption('allow_hidden_files') === 'true'
  );
  return (
    <article>
      <h1>
        {plain(job.name, 100)} <Chip word={plain(job.status, 20)} />
      </h1>
      <p className="nbm-dim">
        {job.status === 'RUNNING' ? `for ${took}` : `${ago(job.began_at)}${took && `, took ${took}`}`}
        {job.cell && ` · at ${plain(job.cell, 160)}`} · job {plain(job.job, 40)}
      </p>
      {job.message && <pre className="nbm-Text nbm-mod-bad">{plain(job.message, 2000)}</pre>}
      {job.attempts
        .filter(step => step.status === 'WAITING')
        .map(step => (
          <Question key={step.step} step={step} />
        ))}
      <div className="nbm-Buttons">
        <JobButtons job={job} jobs={[]} steps={job.attempts} />
        {job.run_id && (
          <Act
            words="Its run"
            about={job.name}
            act={() => actions.openPage({ kind: 'run', names: [job.run_id] }, folder)}
          />
        )}
        {!job.notebook && (
          <Act
            words="Its pipeline"
            about={job.name}
            act={() => actions.openPage({ kind: 'pipeline', names: [job.name] }, folder)}
          />
        )}
        {file.endsWith('.ipynb') && job.status !== 'RUNNING' && (
          <Act words="Its output notebook" about={job.name} act={() => actions.openFile(file)} />
        )}
      </div>
      {job.cells.length > 0 && <Cells cells={job.cells} isOver={job.status !== 'RUNNING'} />}
      {job.attempts.length > 0 && <Steps steps={job.attempts} now={now} />}
      <h2>Log</h2>
      <Log job={job.job} />
      <h2>Parameters</h2>
      {Object.keys(job.parameters).length ? <Card result={job.parameters} /> : <p className="nbm-dim">None.</p>}
      <h2>How it was run</h2>
      <Card result={facts(job)} />
    </article>
  );
}

interface CellsProps {
  readonly cells: readonly CellTiming[];
  readonly isOver: boolean;
}

function Cells({ cells, isOver }: CellsProps): JSX.Element {
  return (
    <section aria-label="Cells">
      <h2>Cells</h2>
      <Table
        headings={['cell', 'first line', 'state', 'took']}
        rows={cells}
        row={(cell, n) => (
          <tr key={n}>
            <th scope="row">{cell.index || 'given'}</th>
            <td>
              <code>{plain(cell.source_line, 120)}</code>
            </td>
            <td>
              <Chip word={isOver && cell.status === 'pending' ? 'not reached' : plain(cell.status, 20)} />
            </td>
            <td>{['ok', 'failed'].includes(cell.status) && lasted(cell.seconds)}</td>
          </tr>
        )}
      />
    </section>
  );
}

function Steps({ steps, now }: { readonly steps: readonly JobStep[]; readonly now: number }): JSX.Element {
  return (
    <section aria-label="Steps">
      <h2>Steps</h2>
      <Table
        headings={['step', 'state', 'took', 'attempt', 'run', 'message']}
        rows={steps}
        row={step => (
          <tr key={step.step}>
            <th scope="row">{plain(step.step, 100)}</th>
            <td>
              <Chip word={plain(step.status, 20)} />
            </td>
            <td>{duration(step, now)}</td>
            <td>{step.attempt || ''}</td>
            <td>
              <RunLink id={step.run_id} />
            </td>
            <td>{plain(step.message)}</td>
          </tr>
        )}
      />
    </section>
  );
}

/** What else is known of how a job was run. Pure. */
export function facts(job: Job): Readonly<Record<string, unknown>> {
  return {
    notebook: job.notebook,
    output: job.output,
    began: job.began_at,
    'exit code': job.exit_code,
    'goes on with': job.resumed,
    machine: job.owner['nbmlops.host'],
    process: job.owner['nbmlops.pid']
  };
}

/** A file's path below the server's root; empty where it does not lie there, or is hidden and may not be opened. Pure. */
export function below(path: string, root: string, showsHidden = false): string {
  const start = `${root.replace(/\/+$/, '')}/`;
  if (!root || !path.startsWith(start)) {
    return '';
  }
  const parts = path.slice(start.length).split('/');
  const isHidden = parts.some(part => part.startsWith('.'));
  return parts.includes('..') || (isHidden && !showsHidden) ? '' : parts.join('/');
}
