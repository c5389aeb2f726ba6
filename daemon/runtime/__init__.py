"""What a process has of its operating system: files, signals, output, its service manager, tasks."""
