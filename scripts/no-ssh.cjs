// Stands in the bundle for ssh2, which dockerode brings: engines are reached by socket or TCP, never by ssh.
module.exports = {};
