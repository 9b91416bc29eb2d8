/** What stands above the sections: the project, how it stands with the server, and the one next step. */

import { refreshIcon, ToolbarButtonComponent } from '@jupyterlab/ui-components';
import * as React from 'react';

import { plain } from '../words';
import { VERSION } from '../version';
import { Empty, Loading, Problem } from './answer';
import { usePlace } from './place';

export function Header(): JSX.Element {
  const { model, actions, folder } = usePlace();
  const project = model.project(folder);
  const refused = model.refusal(folder);
  return (
    <header className="nbm-Header">
      <div className="nbm-Header-line">
        <h2 title={plain(project?.root ?? '')}>{plain(project?.name || 'MLOps', 60)}</h2>
        <ToolbarButtonComponent icon={refreshIcon} tooltip="Refresh" onClick={() => void model.refresh()} />
      </div>
      <Trouble />
      {refused && <Problem error={refused} />}
      {project === undefined && !refused && model.connection !== 'lost' && <Loading />}
      {project?.root === null && (
        <Empty
          step={() => void actions.propose('init', { name: suggested(folder) }, undefined, folder)}
          label="Make it a project"
        >
          {folder ? `${plain(folder, 80)} is` : 'This folder is'} no project of nbmlops yet.
        </Empty>
      )}
    </header>
  );
}

/** What is wrong between this page and the server, if anything is. */
function Trouble(): JSX.Element | null {
  const { model } = usePlace();
  if (model.connection === 'lost') {
    return (
      <p className="nbm-Banner" role="alert">
        {plain(model.trouble, 300)} It is asked again every second; what is shown is older.
      </p>
    );
  }
  if (model.connection === 'outdated') {
    return (
      <p className="nbm-Banner" role="alert">
        {mending(VERSION, model.serverVersion)}
      </p>
    );
  }
  return null;
}

/** Say how to bring two versions together: the older side is to be started anew. Pure. */
export function mending(page: string, server: string): string {
  const isPageOlder = page.localeCompare(server, 'en', { numeric: true }) < 0;
  const what = `This page is of nbmlops ${page}, the server runs ${server}.`;
  return isPageOlder
    ? `${what} Reload the page. If that does not help: pip install --force-reinstall nbmlops==${server}`
    : `${what} Stop the Jupyter server and start it again: jupyter lab`;
}

function suggested(folder: string): string {
  return (
    folder
      .split('/')
      .pop()
      ?.replace(/[^\w.-]+/g, '-') || 'project'
  );
}
