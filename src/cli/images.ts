/**
 * Images to begin an environment with: official ones of Docker Hub on Debian (glibc, which harnesses need; those on
 * Alpine have musl). All have git, a compiler and a shell.
 */
export const IMAGES = [
  { image: 'buildpack-deps:bookworm', description: 'Debian with git, compilers and common libraries' },
  { image: 'node:24-bookworm', description: 'Node.js 24 with npm' },
  { image: 'python:3.13-bookworm', description: 'Python 3.13 with pip' },
  { image: 'golang:1.25-bookworm', description: 'Go 1.25' },
  { image: 'rust:1-bookworm', description: 'Rust with cargo' },
  { image: 'eclipse-temurin:21-jdk', description: 'Java 21 (Ubuntu)' },
  { image: 'ruby:3.4-bookworm', description: 'Ruby 3.4 with bundler' },
  { image: 'php:8.4-cli-bookworm', description: 'PHP 8.4' },
  { image: 'mcr.microsoft.com/dotnet/sdk:9.0-bookworm-slim', description: '.NET 9' },
] as const
