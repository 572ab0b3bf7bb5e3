"""Raw frames and files, labelled cubes, network inputs."""
